//! Server, client and bare connection.

use std::path::Path;

use contact_cache::{Config, ContactCache, env::TokioEnv};
use redis::aio::MultiplexedConnection;
use redis_launcher::{Program, Server};

use crate::records::PREFIX;

pub(crate) fn server() -> Server {
    Server::running(&redis_server())
}

pub(crate) fn redis_server() -> Program {
    Program::redis_server().expect("a redis-server on the PATH")
}

pub(crate) fn config(url: &str, directory: &Path) -> Config {
    Config::new(url.parse().expect("a url"), PREFIX.parse().expect("a prefix"), directory)
}

pub(crate) async fn open(url: &str, directory: &Path) -> ContactCache {
    ContactCache::open(TokioEnv::new(), config(url, directory)).await.expect("a directory of its own")
}

pub(crate) fn client(server: &Server) -> redis::Client {
    redis::Client::open(server.url()).expect("a url")
}

/// A connection as the client has one, and nothing around it.
pub(crate) async fn raw(server: &Server) -> MultiplexedConnection {
    client(server).get_multiplexed_async_connection().await.expect("redis")
}
