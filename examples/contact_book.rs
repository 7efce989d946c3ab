//! Two instances of an application that share a contact book, and what they do when Redis goes away.
//!
//! ```text
//! cargo run --example contact_book                        a Redis of the example's own, which goes away at the end
//! cargo run --example contact_book -- redis://host:6379   yours; so does CONTACT_CACHE_REDIS_URL
//! cargo run --example contact_book -- redis://host DIR    with the local stores in DIR, which stays
//! ```
//!
//! It uses the prefix `contact-book-example`, and clears it in the end.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use contact_cache::{Config, ContactCache, ContactPoint, OpenError, Patch, Read, Uid, config::RedisUrl, env::TokioEnv};
use seedbed_redis::serve_tcp::{Embedded, spawn_embedded};
use serde_json::{Map, json};

type Failure = Box<dyn Error>;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().or_else(|| env::var("CONTACT_CACHE_REDIS_URL").ok());
    let redis = match url.map(|url| url.parse::<RedisUrl>()).transpose() {
        Ok(redis) => redis,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match Box::pin(run(redis, arguments.next().map(PathBuf::from))).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            // A directory that cannot be used is bad input, like a URL.
            if error.is::<OpenError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

async fn run(redis: Option<RedisUrl>, directory: Option<PathBuf>) -> Result<(), Failure> {
    let mut embedded = None;
    let redis = if let Some(redis) = redis { redis } else { embedded.insert(spawn_embedded().await?).url().parse()? };
    let temporary = tempfile::tempdir()?;
    let directory = directory.unwrap_or_else(|| temporary.path().to_owned());
    println!("{redis:?}, local stores in {}\n", directory.display());

    // One directory an instance: it is what the instance has while Redis is away.
    let office = open(&redis, &directory.join("office")).await?;
    let mobile = open(&redis, &directory.join("mobile")).await?;
    share(&office, &mobile).await?;
    match embedded {
        Some(embedded) => go_on_without(embedded, &office).await?,
        None => println!("cleared {:?}", Box::pin(office.clear()).await?.removed),
    }
    office.close().await?;
    mobile.close().await?;
    Ok(())
}

async fn open(redis: &RedisUrl, directory: &Path) -> Result<ContactCache, Failure> {
    let config = Config::new(redis.clone(), "contact-book-example".parse()?, directory);
    Ok(ContactCache::open(TokioEnv::new(), config).await?)
}

/// What one instance writes, the other reads; what both write is merged.
async fn share(office: &ContactCache, mobile: &ContactCache) -> Result<(), Failure> {
    let ada: Uid = "ada".parse()?;
    let written = office.upsert(&ada, &profile("name", "Ada Lovelace")).await?;
    println!("office writes a name       {:?}", written.placement);
    let email = ContactPoint {
        kind: "email".to_owned(),
        value: "ada@example.org".to_owned(),
        rest: Map::from_iter([("label".to_owned(), json!("work"))]),
    };
    let written = mobile.upsert(&ada, &Patch { contacts: vec![email], ..Patch::default() }).await?;
    println!("mobile adds an address     {:?}", written.placement);
    show("office", &office.get(&ada).await?)?;
    show("mobile", &mobile.get(&ada).await?)?;
    println!("office is                  {:?}", office.health());
    Ok(())
}

/// Without Redis: writes go to the local disk, reads come from there.
async fn go_on_without(redis: Embedded, office: &ContactCache) -> Result<(), Failure> {
    drop(redis);
    println!("\nredis is gone\n");
    let ada: Uid = "ada".parse()?;
    let written = office.upsert(&ada, &profile("title", "Countess")).await?;
    println!("office writes a title      {:?}", written.placement);
    show("office", &office.get(&ada).await?)?;
    println!("office is                  {:?}", office.health());
    println!("\nWhat is pending stays on disk, and is merged as soon as redis is back.");
    Ok(())
}

fn profile(field: &str, value: &str) -> Patch {
    Patch { profile: Map::from_iter([(field.to_owned(), json!(value))]), ..Patch::default() }
}

fn show(who: &str, read: &Read) -> Result<(), Failure> {
    let record = serde_json::to_string(&read.record)?;
    println!("{who} reads               {:?} {record}", read.source);
    Ok(())
}
