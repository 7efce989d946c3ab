//! Records that are large, and the limits of one record: a record that is too large is refused before it can hurt anybody.

mod stage;

use contact_cache::{CachedContact, Config, ContactPoint, Error, Patch, Placement, Timestamp, TooLarge, error::Effect};
use serde_json::{Map, json};
use stage::{config, field, play, uid};

/// Limits that are soon reached.
fn small() -> Config {
    Config { record_bytes_max: 10_000, record_cells_max: 10, ..config() }
}

fn refused(error: &Error) -> TooLarge {
    assert_eq!(error.effect(), Effect::None, "{error}");
    match error {
        Error::TooLarge(too_large) => *too_large,
        other => panic!("{other}"),
    }
}

#[test]
fn a_record_beyond_a_limit_is_refused_before_anything_is_stored_or_sent() {
    play(async |stage| {
        let cache = stage.open_with(1, small()).await;
        stage.at_rest(&cache).await;
        let commands = || stage.redis.with_engine(|engine| engine.commands());
        let long = "x".repeat(20_000);
        let many = (0..10).map(|number| (number.to_string(), json!(1))).collect();
        let imported = CachedContact {
            uid: uid("u"),
            contacts: vec![ContactPoint { kind: "note".into(), value: long.clone(), rest: Map::new() }],
            profile: Map::new(),
            metadata: Map::new(),
            first_revealed_at: Timestamp::from_millis(1),
            last_updated_at: Timestamp::from_millis(1),
        };
        for away in [false, true] {
            if away {
                stage.cut(1, true);
                let _ = cache.get(&uid("u")).await;
                stage.away(&cache).await;
            }
            let (before, held) = (commands(), cache.health());
            let patch = field("notes", &long);
            let error = cache.upsert(&uid("u"), &patch).await.expect_err("it is too large");
            assert_eq!((refused(&error).unit, refused(&error).limit), ("bytes", 10_000));
            assert_eq!(refused(&cache.upsert_shared(&uid("u"), &patch).await.expect_err("likewise")).unit, "bytes");
            assert_eq!(refused(&cache.import(&imported).await.expect_err("likewise")).unit, "bytes");
            assert_eq!(refused(&cache.preview_import(&imported).await.expect_err("likewise")).unit, "bytes");
            // Ten fields, and the existence of the record.
            let patch = Patch { metadata: Clone::clone(&many), ..Patch::default() };
            let error = cache.upsert(&uid("u"), &patch).await.expect_err("it has too many cells");
            assert_eq!(
                (refused(&error).setting, refused(&error).at_least, refused(&error).limit),
                ("record_cells_max", 11, 10)
            );
            let now = cache.health();
            assert_eq!((now.pending_records, now.copies_bytes), (held.pending_records, held.copies_bytes));
            // Some probes may have come in between.
            assert!(commands() - before <= 4, "{} commands", commands() - before);
            assert!(stage.stored("u").is_empty());
        }
    });
}

#[test]
fn what_a_record_holds_already_counts_and_it_can_always_be_made_smaller() {
    play(async |stage| {
        let (cache, unbounded) = (stage.open_with(1, small()).await, stage.open(2).await);
        stage.at_rest(&cache).await;
        for name in ["a", "b", "c"] {
            cache.upsert(&uid("u"), &field(name, &name.repeat(3000))).await.expect("it fits");
        }
        let error = cache.upsert(&uid("u"), &field("d", &"d".repeat(3000))).await.expect_err("too much of it");
        assert!((12_000..13_000).contains(&refused(&error).at_least), "{error}");
        cache.upsert(&uid("u"), &field("a", "shorter")).await.expect("it fits");
        cache.upsert(&uid("u"), &field("d", &"d".repeat(3000))).await.expect("there is room for it now");

        // Another instance has other settings.
        unbounded.upsert(&uid("u"), &field("e", &"e".repeat(30_000))).await.expect("it fits");
        cache.get(&uid("u")).await.expect("redis");
        refused(&cache.upsert(&uid("u"), &field("f", "1")).await.expect_err("it is too large by far"));
        let less = Patch { without_profile: vec!["e".into()], ..Patch::default() };
        assert_eq!(cache.upsert(&uid("u"), &less).await.expect("less of it").placement, Placement::Shared);
        cache.upsert(&uid("u"), &field("f", "1")).await.expect("it fits");
        unbounded.upsert(&uid("u"), &field("e", &"e".repeat(30_000))).await.expect("it fits");
        cache.get(&uid("u")).await.expect("redis");
        cache.remove(&uid("u")).await.expect("a removal is always allowed");
    });
}
