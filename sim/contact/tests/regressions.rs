//! Runs that once alarmed, kept as replay files. Each must pass, for the reason in its story.
//!
//! | file | what it was |
//! | --- | --- |
//! | `flushall-just-before-the-end` | a bug of the bed: FLUSHALL came less than a second before the final reads, so that no instance had probed since; each believed to be at rest and then answered `Merged`. The client promises to notice within its probe interval: the quiesce phase waits that long. |
//! | `clear-on-a-full-disk` | a bug of the client: a removal that failed on the full disk was kept, and took effect when there was room again; `clear` named it neither among the removed nor among the unknown. |
//! | `rot-behind-the-end-of-the-log` | a bug of the client: the entry that says that a log was closed in order stood before the records of the same batch, so that rot of these passed for a torn tail of an orderly end, and a loss for none. |
//! | `a-sync-that-fails-while-a-cache-opens` | a bug of the client: `open` waited for Redis and then gave out a cache whose store had stopped meanwhile, on a disk that failed to sync; its caller learned of it from every later call. Opening is an error now, and can be tried again. |
//! | `a-removal-behind-an-expired-record` | a bug of the client: a record with a pending removal expired while Redis was away, and the next local write hid it behind a tombstone that is never sent, in the place of the removal, which Redis then never heard of. |
//! | `a-commit-that-a-power-loss-tore` | a bug of the client: of a commit of several records, a loss of power left the later one and not the earlier, and the store said that it was damaged. An entry says which commit it belongs to now. |
//! | `entries-hidden-by-a-misdirected-write` | a bug of the client: the disk put an entry in the place of an earlier one, and at the next opening all entries between the two passed for stale. They are read in the order of their numbers now. |
//! | `half-of-an-upsert-in-a-copy` | a bug of the client: a pending write that lost to another instance's upsert in one cell was answered with that cell alone, and the copy showed half of that upsert when Redis was away again. The whole record is answered now. |
//! | `a-write-forgotten-while-others-renewed` | a bug of the client: cut off from Redis for longer than the time to live, it wrote before and after its own estimate of the end, and forgot its first write, although another instance had kept the record alive. Only Redis's clock ends a life now (L2). |
//! | `a-contact-forgotten-by-empty-upserts` | the same as it was found, seed 710000213 of `mixed`, shrunk: upserts without a field kept the record alive, and a contact point in it was lost. |
//! | `a-write-forgotten-after-a-restart` | the same with a restart between the two writes. |
//! | `a-write-above-a-removal-forgotten` | the same with a removal before the first write: what the removal had taken showed again. |
//! | `a-fast-clock-and-a-fresh-write` | a bug of the client: it came back with a clock a minute ahead, took its own write of three seconds before for expired, and buried it. What it estimates before it meets Redis is corrected then (L3). |
//! | `a-slow-clock-and-the-record-of-others` | a bug of the client: it came back with a clock a minute behind; its first write had no time left when it reached Redis, and ended the record that others had just written. A life that is over ends no other now (L1, L4). |
//! | `a-fast-clock-and-a-long-life` | a bug of the client: a record that was written by a clock a minute ahead lived a minute longer. |
//! | `a-clock-read-late-by-a-stopped-process` | a bug of the client: an answer to TIME lay in the socket of a paused process for 17 seconds and passed for the present time, so that what was over showed again and a new write was over at once. An answer that took longer than a reply may is no news of the clock. |
//! | `a-life-shortened-by-an-overtaken-answer` | a bug of the client: the acknowledgement of a replay was taken in after the answer to a later upsert, and the shorter life that it told replaced the longer one. |
//! | `a-pending-cell-that-lost-its-life` | a bug of the client: copies that turned out to be over took the existence cell with them, which a pending cell beside them needed. That cell then showed in the next life. |
//! | `a-copy-that-ended-a-moment-ago` | a bug of the client: its estimate of Redis's clock was behind by a round trip, and a copy that had just ended in Redis passed for lost and was published again. |
//! | `a-wall-clock-set-forward-in-a-sleep` | a bug of the client: it woke with its wall clock a minute ahead, and in the moment before the next probe dropped copies as expired that Redis had just lost. |
//! | `a-life-that-goes-on-after-the-clock-of-redis-went-back` | a bug of the bed: a life that had begun before Redis's clock went back goes on in Redis until its end, together with all that is written meanwhile; the checker ended it earlier. |
//! | `a-second-connection-without-a-wait` | a bug of the client: a record that was merged apart needed a second connection, no name was found for it, and every pass over what is pending asked again: 43 times in 100 ms. It waits a second or two now. |
//! | `copies-carried-over-by-what-was-pending` | a bug of the client: a pending write of which Redis had not heard overlapped two lives that Redis told, and the copies of the first came into the second with it. |
//! | `an-upsert-after-the-clock-of-redis-went-back` | a bug of the client: Redis went back to an older save and its clock by a quarter of an hour, so that the life it told with an upsert was over before the one that the instance held. That passed for a reply that was overtaken, and the next read lacked the upsert. A reply to a later request is never that. |
//! | `a-replay-of-what-was-over` | a bug of the client: a pending write whose time was over came into the record that another instance had begun since, and showed again (L4). |
//! | `a-write-in-the-microsecond-of-its-crash` | a bug of the bed: a process ended in the microsecond in which it was asked to write, and the checker went by the clock of the next process. |
//! | `two-writes-at-once-by-a-fast-clock` | a bug of the client, seed 950000815 of `mixed`: the clock of an instance was three hours ahead, and two of its writes looked at the same time whether their stamps stand in Redis. The first confirmed them; the second then met no stamp to doubt in its reply, and took its own answer for damaged. |
//! | `a-write-outrun-by-three-others` | a bug of the bed, seed 950000540 of `contention`: a write that has four stamps gives up after three concurrent writes, if its first stamp lies below an earlier write. G13 excused it only from four concurrent writes on. |
//! | `no-room-for-a-write-that-others-outran` | a bug of the bed, seed 960001118 of `mixed`: three concurrent writes outran a write, so it had to be kept locally, and it alone had more bytes than may be pending. G13 excused the answer `Local`, but not the error that there was no room. |
//! | `a-read-beside-the-write-that-begins-a-life` | a bug of the bed, seed 960000224 of `expiry`: a read was under way beside a write of its own instance that began a new life of the record. Its reply does not show the time of first revelation that the instance held before. G13 assumed that it does, and rejected the next read, which showed that time again. |
//! | `a-removal-between-two-clocks-of-redis` | a bug of the bed, seed 963005098 of `expiry`: Redis's clock was set back by a quarter of an hour. An instance held a life that had been told before, did not hear of a removal, wrote again, and took both lives for one: the value came back after it had expired in Redis. docs/PROTOCOL.md names that; the checker knew the case only where no removal lay between. |
//! | `a-removal-between-two-lives-without-an-end` | a bug of the bed, seed 171 of `contention`: an instance that had not heard of a removal went on with the begin of the life before it. G4 compared the begins, which have no effect where lives have no end. |
//! | `a-length-noted-before-its-sync` | a bug of the client, seed 966000231 of `churn`: an opening noted the length of a log including bytes that a killed process had left unsynced. The next sync failed and dropped these bytes, and the shorter log passed for one that was cut. An opening syncs such a log first. |
//! | `a-copy-confirmed-after-an-eviction` | a bug of the bed, seed 105922026261936 of `calls`: an eviction took two records and the marker of the generation, so that an instance published all its copies again; G2 took that of a third record for older than it was. |
//! | `times-that-came-back-after-an-accepted-loss` | a bug of the client, found by `calls`: set to take Redis's word for a loss, an instance gave up the cells of its copy and published the times of the record again, so that its read answered `Merged` for a record that nobody held. Times yield with the cells now (R9). |
//! | `a-connection-for-each-of-many-culprits` | a bug of the client, seed 715001735 of `moments`: Redis took no word of more than 60 bytes, so that each of several pending records ended the connection that it was tried on alone, and the next was opened at once: 13 within 25 ms. It waits between two such records now. |
//! | `a-value-lost-with-the-life-of-its-winner` | a bug of the client, seed 981007649 of `expiry`: a pending write had lost to a larger stamp in one of its cells, and Redis ended the life of the winner before it heard of the write. The next life began with the other cells of the write and without that one. The winner is sent along now (L1). |
//! | `a-value-back-with-a-write-heard-of-late` | a bug of the bed, seed 981006726 of `expiry`: Redis ended a life before it heard of a write that goes on with it, and another value showed until a copy brought the larger one back. G6 knew of such a return only where no other value had shown in between. |
//! | `an-entry-back-from-below-a-rotten-one` | a bug of the bed, seed 970020043 of `calls`: bit rot took the entry with an acknowledgement, so that the entry before it counted again, with more pending than the limit. G11 excuses bytes after damage, and counts that. |
//! | `a-removal-refused-halfway` | a bug of the client, seed 996002724 of `moments`: the user lost the right to HSET, and the merge script had deleted the cells before it came to write the tombstone. Another instance brought the record back, and the removal took it again when it was merged. The script writes the tombstone first. |
//! | `a-copy-told-again-with-a-write-heard-of-late` | a bug of the bed, seed 996002825 of `expiry`: Redis ended a life and heard late of a write that goes on with it. A third instance published its copy again, so that its read answered `Merged`. G13 did not know of that. |
//! | `an-opening-that-never-met-redis-before-two-that-did` | a bug of the client, seed 995009092 of `expiry`: an opening wrote without having met Redis, and the two openings after it met a Redis whose clock had been set back and forth. The second corrected the estimate by the difference from the first of the two, and the record lived five seconds too long. An estimate says by which offset it was made now (L3). |
//! | `a-life-ended-by-a-step-of-the-clock-of-redis` | a bug of the bed, seed 990000942 of `expiry`: a step of Redis's clock ended a life, and when it was undone a copy told it again. At the instant of the step the checkers took the earlier reading, which the clock never fell below again. |
//! | `an-eviction-after-the-clock-of-redis-went-back` | a bug of the client, seed 990002956 of `expiry`: Redis's clock was set back by a quarter of an hour, and no probe had asked for it when Redis lost a record just written. By the estimate the copy was over, and it was not published again. An answer that cuts the end of a life off shows that the estimate is ahead: the client asks for the clock then. |
//! | `a-removal-between-two-writes-of-another` | a bug of the client, seed 993008618 of `expiry`: an instance wrote before and after a removal that it had not heard of, took the two lives for one, and told Redis in its final read the later end of the first. A removal that is news ends the life that was held. |
//! | `a-final-read-told-again-after-a-step-back` | a bug of the bed, seed 899002260 of `expiry`: Redis's clock was set back, so that Redis ended a life that its own word had told to last longer, and a copy told it again in a final read. docs/PROTOCOL.md names that; G13 excused it, and G4 did not. |
//! | `a-line-that-swallowed-the-next-reply` | a bug of the client, found by seed 1002001638 of `large` and made small: one bit flipped in the end of the line `-NOSCRIPT ..`, which then went on to the end of the next reply's line. Each later request got the answer to another one: a write was answered `Shared` by the success of another write, and was not in Redis. A line that does not end as lines do ends the connection. |
//! | `a-value-back-above-a-write-after-a-step-back` | a bug of the bed, seed 1002000906 of `mixed`: a step of Redis's clock ended a life and was undone, another instance with a clock behind wrote, and a copy told the first value again, with its larger stamp. G5 took the order of Redis for certain, though Redis had ended that life in between. |
//! | `a-sleep-before-the-first-contact` | a bug of the client, seed 1001004427 of `expiry`: its machine was asleep while the cache opened, and it wrote before it met Redis, by the wall clock. The correction at the contact was by the monotonic clock, which had stood still: the life lay thirteen seconds in the future, and hid the next write. An estimate says by how much the wall clock had gone further (L3). |
//! | `a-life-lost-with-an-older-save-and-outdone` | a bug of the client, seed 1002000882 of `mixed`: Redis went back to an older save and lost an upsert. The read that showed it brought a larger stamp, which took the mark of the lost life away: the life was told again only by the read after that, in the final reads. The cells that stand after the reply bring the life now (R5). |
//! | `lives-kept-apart-beyond-a-limit` | a bug of the bed, seed 1002003155 of `mixed`: an instance that was cut off kept three lives of a record apart, and had no room for a fourth. G8 counted the bytes of one. |
//! | `a-second-read-before-a-time-is-told-again` | a bug of the bed, seed 1011001391 of `expiry`: Redis had forgotten when a record was first revealed, a read found that, and another read came before Redis was told again. G13 took the first of the two for a proof that Redis knew. |
//! | `a-record-left-out-and-renewed-later` | a bug of the bed, seed 1011006105 of `expiry`: Redis's clock had just been set back, and an instance that had not asked since took a record for over and did not clear it. G12 counted upserts that renewed the record after that. |

use std::{fs, path::Path};

use seedbed_contact::{
    checker::Verdict,
    outcomes::{judge_scenario, worst},
    scenario::ReplayFile,
};

#[test]
fn what_was_mended_stays_mended() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/regressions"));
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "the replay files have moved");
    for path in files {
        let scenario = ReplayFile::read(&path).unwrap().scenario;
        let outcomes = judge_scenario(&scenario).0.unwrap();
        assert_eq!(worst(&outcomes.judgements), Verdict::Pass, "{}", path.display());
        let story = format!("`{}`", path.file_stem().unwrap().to_string_lossy());
        assert!(include_str!("regressions.rs").contains(&story), "{story} has no story in the header of this file");
    }
}
