//! What an application sees of its socket that is no matter of the link: resets within a reply, short reads and writes,
//! half closes, a peer that does not read, and what an idle connection costs.

use super::*;

/// On a real kernel: the peer sends half, then closes with `SO_LINGER` 0. Linux 6.18 hands out the half, then
/// `ECONNRESET`, then the end.
#[test]
fn a_reset_within_a_reply_leaves_the_first_half_to_be_read() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        assert_eq!(world.net().reset_after(HUB, 1, 7), 1);
        assert_eq!(echo(&mut stream, b"12345").await.expect("five of seven"), b"12345");
        stream.write_all(b"6789").await.expect("it is open");
        world.sleep_us(5_000).await;
        let mut half = [0; 10];
        assert_eq!(stream.read(&mut half).await.expect("two more arrived"), 2);
        assert_eq!(&half[..2], b"67");
        assert_eq!(stream.read_u8().await.expect_err("then the reset").kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(stream.read(&mut half).await.expect("then the end"), 0);
        world.sleep_us(1_000).await;
        assert_eq!(world.net().open_connections(HUB), 0, "the server learned of it too");
        drop(stream);
        echo(&mut connect(&world).await.expect("it listens"), b"x").await.expect("the next connection is whole");
    });
}

#[test]
fn a_reset_can_come_at_every_byte_of_either_direction() {
    for position in 0..12 {
        simulate(1, async move |world| {
            let mut stream = connected(&world).await;
            let (from, to) = if position % 2 == 0 { (HUB, Host::Instance(1)) } else { (Host::Instance(1), HUB) };
            world.net().reset_after(from, to, position);
            let mut replies = Vec::new();
            for byte in b"0123456789abcdef" {
                match echo(&mut stream, &[*byte]).await {
                    Ok(reply) => replies.extend(reply),
                    Err(error) => {
                        let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof];
                        assert!(kinds.contains(&error.kind()), "{error}");
                        break;
                    }
                }
            }
            // Of requests the byte that is the last to arrive is not answered any more.
            let whole = if position % 2 == 0 { position.max(1) } else { position - 1 };
            let whole = usize::try_from(whole).expect("small");
            let answered = if position == 0 { 0 } else { whole };
            assert_eq!(replies, b"0123456789abcdef"[..answered]);
        });
    }
}

#[test]
fn short_reads_and_writes_move_fewer_bytes_and_lose_none() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        world.net().set_short(1, 500);
        let sent: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let (mut written, mut short_writes) = (0, 0);
        while written < sent.len() {
            let wanted = (sent.len() - written).min(100);
            let count = stream.write(&sent[written..written + wanted]).await.expect("it is open");
            short_writes += u32::from(count < wanted);
            written += count;
        }
        world.sleep_us(10_000).await;
        let (mut received, mut short_reads) = (Vec::new(), 0);
        while received.len() < sent.len() {
            let mut buffer = [0; 100];
            let count = stream.read(&mut buffer).await.expect("it is open");
            short_reads += u32::from(count < 100);
            received.extend_from_slice(&buffer[..count]);
        }
        assert!(received == sent && short_writes > 50 && short_reads > 50, "{short_writes} and {short_reads} short");
        world.net().set_short(1, 0);
        assert_eq!(stream.write(&[1; 100]).await.expect("it is open"), 100);
    });
}

#[test]
fn after_a_half_close_the_other_half_goes_on() {
    simulate(1, async |world| {
        world.start(HUB, |env| async move {
            let listener = env.network().listen(PORT).expect("the port is free");
            let mut stream = listener.accept().await.expect("one connects");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.expect("the client says that it is done");
            env.sleep(Duration::from_secs(1)).await;
            stream.write_all(&all).await.expect("the client still reads");
        });
        world.sleep_us(1).await;
        let mut stream = connect(&world).await.expect("it listens");
        stream.write_all(b"question").await.expect("it is open");
        stream.shutdown().await.expect("it is open");
        assert_eq!(stream.write(b"x").await.expect_err("it said that it was done").kind(), io::ErrorKind::BrokenPipe);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("the server closes in order");
        assert_eq!(answer, b"question");
    });
}

/// On a real kernel: Linux 6.18 with `TCP_USER_TIMEOUT` 3 s fails a blocked write to a peer that does not read with
/// `ETIMEDOUT` after 3.5 s.
#[test]
fn a_peer_that_acknowledges_and_does_not_read_is_given_up_after_the_user_timeout() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        world.sleep_us(3_000_000).await;
        world.pause(HUB);
        let (error, ms) = ms(&world, async {
            loop {
                if let Err(error) = stream.write(&[7; 10_000]).await {
                    break error;
                }
            }
        })
        .await;
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((30_000..30_010).contains(&ms), "it takes {ms} ms");
    });
}

#[test]
fn a_peer_that_reads_again_in_time_is_not_given_up() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        world.pause(HUB);
        stream.write_all(&vec![7; 65_536]).await.expect("there is room");
        world.sleep_us(29_000_000).await;
        world.resume(HUB);
        stream.read_exact(&mut vec![0; 65_536]).await.expect("it is all echoed");
        world.sleep_us(5_000_000).await;
        assert_eq!(echo(&mut stream, b"x").await.expect("it is open"), b"x");
    });
}

/// Redis sets no user timeout: its kernel asks for room for as long as it is answered.
#[test]
fn a_server_waits_for_ever_for_a_client_that_does_not_read() {
    simulate(1, async |world| {
        world.start(HUB, |env| async move {
            let listener = env.network().listen(PORT).expect("the port is free");
            let mut stream = listener.accept().await.expect("one connects");
            stream.write_all(&vec![7; 200_000]).await.expect("the client is there");
        });
        world.sleep_us(1).await;
        let mut stream = connect(&world).await.expect("it listens");
        world.sleep_us(3_600_000_000).await;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("the server waited");
        assert_eq!(all.len(), 200_000);
    });
}

#[test]
fn an_idle_connection_costs_little_also_after_a_burst() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        world.pause(HUB);
        for _ in 0..10_000 {
            stream.write_all(b"x").await.expect("there is room");
        }
        world.resume(HUB);
        stream.read_exact(&mut vec![0; 10_000]).await.expect("it is all echoed");
        echo(&mut stream, b"x").await.expect("it is open");
        world.sleep_us(1_000_000).await;
        echo(&mut stream, b"x").await.expect("it is open");
        let bytes = world.net().with(|tcp| {
            let ids = tcp.conns.ids();
            ids.into_iter().filter_map(|id| tcp.conns.get(id).map(|conn| conn.memory_bytes())).sum::<usize>()
        });
        assert!(bytes < 4_096, "{bytes} bytes");
    });
}
