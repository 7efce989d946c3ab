//! A cache whose metrics Prometheus can scrape.
//!
//! ```console
//! $ cargo run --example metrics -- redis://127.0.0.1:6379/ 127.0.0.1:9187
//! $ curl http://127.0.0.1:9187/metrics
//! ```
//!
//! Without arguments it uses an embedded server and port 9187. It reads and writes a little, for ever.

use std::{error::Error, net::SocketAddr, time::Duration};

use contact_cache::{
    Config, ContactCache, Patch,
    env::{Env, TokioEnv},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use seedbed_redis::serve_tcp::spawn_embedded;

/// From a local read to the deadline of a call.
const BUCKETS_S: [f64; 10] = [0.000_01, 0.000_1, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let embedded = spawn_embedded().await?;
    let redis = arguments.next().unwrap_or_else(|| embedded.url());
    let listen: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:9187").parse()?;

    // Before the cache is opened: it registers its metrics then.
    PrometheusBuilder::new().set_buckets(&BUCKETS_S)?.with_http_listener(listen).install()?;
    let directory = tempfile::tempdir()?;
    let env = TokioEnv::new();
    let cache = ContactCache::open(env.clone(), Config::new(redis.parse()?, "crm".parse()?, directory.path())).await?;
    println!("http://{listen}/metrics");

    for number in 0_u64.. {
        let uid = format!("u{}", number % 10).parse()?;
        let mut patch = Patch::default();
        patch.profile.insert("number".into(), number.into());
        cache.upsert(&uid, &patch).await?;
        cache.get(&uid).await?;
        env.sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
