//! Starts redis-server for tests. Each server is a process with a port or a socket file and a directory of its own, and ends
//! with its value.
//!
//! ```
//! use redis_launcher::{Program, Server};
//!
//! // Without a redis-server on the PATH there is nothing to test.
//! let Some(program) = Program::redis_server() else { return };
//! let mut server = Server::running(&program);
//! assert_eq!(server.ask("SET k v"), "+OK\r\n");
//! server.kill();
//! server.start();
//! assert_eq!(server.ask("GET k"), "$-1\r\n");
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | `program` | which program is started: the redis-server of this machine, or another that speaks as it does |
//! | `server` | the process: start, kill, pause, resume, and commands |
//! | `port` | ports that nobody else uses |

mod port;
mod program;
mod server;

pub use self::{
    port::free_port,
    program::Program,
    server::{Server, ask},
};
