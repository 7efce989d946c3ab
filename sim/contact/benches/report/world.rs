//! Server, client and bare connection.

use std::path::Path;

use contact_cache::{Config, ContactCache, config::RedisUrl, env::TokioEnv};
use redis::aio::MultiplexedConnection;

use crate::{
    records::PREFIX,
    servers::{Kind, Server},
};

pub(crate) fn server() -> Server {
    Server::running(Kind::Real)
}

pub(crate) fn config(url: &RedisUrl, directory: &Path) -> Config {
    Config::new(url.clone(), PREFIX.parse().expect("a prefix"), directory)
}

pub(crate) async fn open(url: &RedisUrl, directory: &Path) -> ContactCache {
    ContactCache::open(TokioEnv::new(), config(url, directory)).await.expect("a directory of its own")
}

pub(crate) fn client(server: &Server) -> redis::Client {
    redis::Client::open(format!("redis://127.0.0.1:{}", server.port())).expect("a url")
}

/// A connection as the client has one, and nothing around it.
pub(crate) async fn raw(server: &Server) -> MultiplexedConnection {
    client(server).get_multiplexed_async_connection().await.expect("redis")
}
