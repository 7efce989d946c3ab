//! Connections whose client waits for an element: what the engine has for them comes when another client pushes, or when their time
//! is over.

use std::{
    future::{Future as _, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use seedbed_env::Env as _;
use seedbed_redis::{ClientId, DueReply};
use seedbed_world::{SimEnv, SimStream};
use tokio::io::{AsyncRead, ReadBuf};

use super::RedisHost;

/// How long it relies on the wall clock at most, which can be set meanwhile: Redis looks at it ten times a second.
const LOOK_MS: u64 = 100;

/// What a connection whose client waits has met.
pub(super) enum Arrived {
    /// So many bytes from the client; none at the end of the connection.
    Bytes(usize),
    /// Replies.
    Due(DueReply),
}

impl RedisHost {
    /// Waits for bytes from a client that waits for an element, or for what it is to be answered. `None` if the connection is broken.
    pub(super) async fn read_or_due(
        &self,
        env: &SimEnv,
        client: ClientId,
        stream: &mut SimStream,
        input: &mut [u8],
    ) -> Option<Arrived> {
        loop {
            // It is made first, so that it misses none of what comes from here on.
            let mut came = pin!(self.came.notified());
            came.as_mut().enable();
            let now_ms = env.wall_ms();
            let (due, wakes_at_ms) = self.with_engine(|engine| {
                engine.wake(now_ms);
                (engine.take_due(client), engine.wakes_at_ms())
            });
            if let Some(due) = due {
                return Some(Arrived::Due(due));
            }
            let left = wakes_at_ms.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms).clamp(1, LOOK_MS)));
            let mut over = pin!(async {
                match left {
                    Some(left) => env.sleep(left).await,
                    None => std::future::pending().await,
                }
            });
            let mut buffer = ReadBuf::new(input);
            let arrived = poll_fn(|context| {
                if let Poll::Ready(read) = Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                    return Poll::Ready(Some(read.ok().map(|()| Arrived::Bytes(buffer.filled().len()))));
                }
                let is_over = over.as_mut().poll(context).is_ready();
                if came.as_mut().poll(context).is_ready() || is_over { Poll::Ready(None) } else { Poll::Pending }
            });
            if let Some(arrived) = arrived.await {
                return arrived;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use seedbed_redis::Refusal;
    use seedbed_world::simulate;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::redis_host::{NAME, PORT};

    async fn say(stream: &mut SimStream, line: &str) {
        stream.write_all(format!("{line}\r\n").as_bytes()).await.expect("it is connected");
    }

    async fn hear(stream: &mut SimStream) -> String {
        let mut reply = [0; 256];
        let length = stream.read(&mut reply).await.expect("it is connected");
        String::from_utf8_lossy(&reply[..length]).into_owned()
    }

    async fn clients(env: &SimEnv) -> [SimStream; 2] {
        let connect = async || crate::connect(env, NAME, PORT).await.expect("it listens");
        [connect().await, connect().await]
    }

    #[test]
    fn a_client_that_waits_is_answered_on_its_own_connection() {
        let answers = simulate(1, async |world| {
            RedisHost::default().start(&world);
            let app = world.boot(world.server("app"));
            let [mut waiting, mut other] = clients(&app).await;
            say(&mut waiting, "BLPOP a 0\r\nPING").await;
            app.sleep(Duration::from_secs(5)).await;
            say(&mut other, "RPUSH a x").await;
            [hear(&mut other).await, hear(&mut waiting).await]
        });
        assert_eq!(answers, [":1\r\n", "*2\r\n$1\r\na\r\n$1\r\nx\r\n+PONG\r\n"]);
    }

    #[test]
    fn a_wait_ends_after_its_time_also_while_another_has_no_end() {
        let (answer, waited_ms) = simulate(2, async |world| {
            RedisHost::default().start(&world);
            let app = world.boot(world.server("app"));
            let [mut waiting, mut other] = clients(&app).await;
            say(&mut other, "BLPOP a 0").await;
            let begun = app.now();
            say(&mut waiting, "BRPOP a 1.5").await;
            (hear(&mut waiting).await, app.now().saturating_sub(begun).as_millis())
        });
        assert_eq!(answer, "*-1\r\n");
        assert!((1_500..1_700).contains(&waited_ms), "{waited_ms} ms");
    }

    #[test]
    fn a_client_that_leaves_or_is_sent_away_waits_no_more() {
        let answers = simulate(3, async |world| {
            let redis = RedisHost::default();
            redis.start(&world);
            let app = world.boot(world.server("app"));
            let [mut waiting, leaving] = clients(&app).await;
            let mut leaving = leaving;
            say(&mut leaving, "BLPOP a 0").await;
            app.sleep(Duration::from_secs(1)).await;
            drop(leaving);
            app.sleep(Duration::from_secs(1)).await;
            let [mut other, _idle] = clients(&app).await;
            say(&mut other, "RPUSH a x\r\nLLEN a").await;
            let left = hear(&mut other).await;
            say(&mut waiting, "BLPOP b 0").await;
            app.sleep(Duration::from_secs(1)).await;
            redis.with_engine(|engine| engine.refuse(Some(Refusal::ReadOnly)));
            [left, hear(&mut waiting).await, hear(&mut waiting).await]
        });
        assert_eq!(answers[0], ":1\r\n:1\r\n");
        assert!(answers[1].starts_with("-UNBLOCKED "), "{}", answers[1]);
        assert_eq!(answers[2], "");
    }
}
