//! What a capture shows of a connection's life.

use super::*;
use crate::net::{Capture, Kind, Packet};

/// What was sent, without times: who, what, and how many bytes.
fn told(packets: &[Packet]) -> Vec<(&'static str, Kind, usize)> {
    let who = |host| if host == HUB { "server" } else { "client" };
    packets.iter().map(|packet| (who(packet.from.0), packet.kind, packet.bytes.len())).collect()
}

#[test]
fn a_connection_is_shown_from_handshake_to_close() {
    simulate(1, async |world| {
        let capture = Capture::default();
        world.net().record(&capture);
        let stream = connected(&world).await;
        drop(stream);
        world.sleep_us(10_000).await;
        let packets = capture.take();
        let expected = [
            ("client", Kind::Syn, 0),
            ("server", Kind::SynAck, 0),
            ("client", Kind::Ack, 0),
            ("client", Kind::Data, 5),
            ("server", Kind::Ack, 0),
            ("server", Kind::Data, 5),
            ("client", Kind::Ack, 0),
            ("client", Kind::Fin, 0),
            ("server", Kind::Ack, 0),
            ("server", Kind::Fin, 0),
            ("client", Kind::Ack, 0),
        ];
        let mut shown = told(&packets);
        // The handshake's third step is acknowledged here, and takes no part in it on the wire.
        shown.dedup();
        assert_eq!(shown, expected);
        let [syn, syn_ack, ack, data] = [&packets[0], &packets[1], &packets[2], &packets[3]];
        assert_eq!(syn_ack.acknowledged, syn.sequence.wrapping_add(1));
        assert_eq!((ack.sequence, ack.acknowledged), (syn.sequence.wrapping_add(1), syn_ack.sequence.wrapping_add(1)));
        assert_eq!((data.sequence, &data.bytes[..]), (ack.sequence, &b"hello"[..]));
        assert_eq!((data.to, data.from.0), ((HUB, PORT), Host::Instance(1)));
        let last = packets.last().expect("many");
        assert_eq!(last.sequence, ack.sequence.wrapping_add(5 + 1), "five bytes and the FIN");
    });
}

#[test]
fn a_lost_segment_is_shown_as_often_as_it_is_sent() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        let capture = Capture::default();
        world.net().record(&capture);
        world.net().cut(1, HUB, true);
        heal_after(&world, 500_000);
        echo(&mut stream, b"x").await.expect("it gets through");
        let packets = capture.take();
        let sent: Vec<_> =
            packets.iter().filter(|packet| packet.from.0 == Host::Instance(1) && !packet.bytes.is_empty()).collect();
        // At once, after 200 and after 600 ms.
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|packet| packet.sequence == sent[0].sequence && packet.bytes == b"x"));
        let gaps: Vec<_> = sent.iter().map(|packet| (packet.at_us - sent[0].at_us) / 1_000).collect();
        assert_eq!(gaps, [0, 200, 600]);
    });
}

#[test]
fn refusals_resets_and_keepalives_are_shown() {
    simulate(1, async |world| {
        world.add(HUB);
        let capture = Capture::default();
        world.net().record(&capture);
        connect(&world).await.expect_err("nobody listens");
        assert_eq!(told(&capture.take()), [("client", Kind::Syn, 0), ("server", Kind::Reset, 0)]);
        let stream = connected(&world).await;
        capture.take();
        world.sleep_us(11_000_000).await;
        let packets = capture.take();
        assert_eq!(told(&packets), [("client", Kind::Ack, 0), ("server", Kind::Ack, 0)]);
        assert_eq!(packets[0].sequence.wrapping_add(1), packets[1].acknowledged, "a keepalive repeats what is known");
        world.net().reset_between(1, HUB);
        assert_eq!(told(&capture.take()), [("server", Kind::Reset, 0), ("client", Kind::Reset, 0)]);
        drop(stream);
    });
}

#[test]
fn a_window_that_closes_is_shown() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        let capture = Capture::default();
        world.net().record(&capture);
        world.pause(HUB);
        stream.write_all(&vec![7; 65_536]).await.expect("there is room");
        world.sleep_us(10_000).await;
        let least = |packets: &[Packet]| packets.iter().filter(|p| p.from.0 == HUB).map(|p| p.window).min();
        assert_eq!(least(&capture.take()), Some(0));
        world.resume(HUB);
        stream.read_exact(&mut vec![0; 65_536]).await.expect("it is all echoed");
        let packets = capture.take();
        let updates = packets.iter().filter(|p| p.from.0 == HUB && p.kind == Kind::Ack && p.window > 0).count();
        assert!(updates > 0, "the sender hears of room");
    });
}
