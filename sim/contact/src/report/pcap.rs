//! The traffic of a run as a pcap file, for Wireshark, tshark and tcpdump: IPv4 and TCP as they would stand on the wire.
//!
//! Hosts have the addresses that `Host::address` gives them (Redis is 10.0.0.1); times are those of a right wall clock in
//! the run. Each packet stands at the time when it left its sender, also if it was lost. To see commands and replies:
//! `tshark -r FILE -d tcp.port==6379,resp`.

use std::io::{self, Write};

use etherparse::PacketBuilder;

use crate::world::{
    clock::WALL_BASE_MS,
    net::{Kind, Packet},
};

/// The format's magic number: microseconds, in the byte order of the writer.
const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: [u16; 2] = [2, 4];
/// No packet is longer, so none is cut.
const SNAP_BYTES: u32 = 262_144;
/// `LINKTYPE_RAW`: a packet begins with its IP header.
const RAW_IP: u32 = 101;
/// Hops that a packet may still take: Linux's first value.
const TTL: u8 = 64;

/// Writes the file.
pub fn write(packets: &[Packet], into: &mut impl Write) -> io::Result<()> {
    into.write_all(&MAGIC.to_le_bytes())?;
    into.write_all(&VERSION.map(u16::to_le_bytes).concat())?;
    // Time zone and accuracy, which nobody uses, then what was said above.
    into.write_all(&[0, 0, SNAP_BYTES, RAW_IP].map(u32::to_le_bytes).concat())?;
    let mut bytes = Vec::new();
    for packet in packets {
        bytes.clear();
        encode(packet, &mut bytes)?;
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let at_us = WALL_BASE_MS * 1_000 + packet.at_us;
        let seconds = u32::try_from(at_us / 1_000_000).map_err(io::Error::other)?;
        let us = u32::try_from(at_us % 1_000_000).map_err(io::Error::other)?;
        into.write_all(&[seconds, us, len, len].map(u32::to_le_bytes).concat())?;
        into.write_all(&bytes)?;
    }
    into.flush()
}

/// The packet as it stands on the wire, with its checksums.
fn encode(packet: &Packet, into: &mut Vec<u8>) -> io::Result<()> {
    let Packet { from, to, kind, sequence, acknowledged, window, bytes, .. } = packet;
    let tcp = PacketBuilder::ipv4(from.0.address().octets(), to.0.address().octets(), TTL)
        .tcp(from.1, to.1, *sequence, *window);
    let tcp = match kind {
        Kind::Syn => tcp.syn(),
        Kind::SynAck => tcp.syn().ack(*acknowledged),
        Kind::Ack => tcp.ack(*acknowledged),
        Kind::Data => tcp.psh().ack(*acknowledged),
        Kind::Fin => tcp.fin().ack(*acknowledged),
        Kind::Reset => tcp.rst().ack(*acknowledged),
    };
    tcp.write(into, bytes).map_err(io::Error::other)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of tests, and a program that reads them")]
mod tests {
    use std::{collections::BTreeMap, process::Command};

    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;
    use crate::{runner, scenario::Scenario, seed::Seed, workload::Workload, world::net::Capture};

    /// Reads a file back: times in microseconds, and packets.
    fn parse(file: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
        assert_eq!([word(0), word(4), word(16), word(20)], [MAGIC, 0x0004_0002, SNAP_BYTES, RAW_IP]);
        let (mut at, mut packets) = (24, Vec::new());
        while at < file.len() {
            let len = word(at + 8) as usize;
            assert_eq!(word(at + 12) as usize, len, "no packet is cut");
            let at_us = u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4));
            packets.push((at_us, file[at + 16..at + 16 + len].to_vec()));
            at += 16 + len;
        }
        packets
    }

    fn recorded(workload: Workload, seed: u64) -> (u64, Vec<Packet>) {
        let capture = Capture::default();
        let run = runner::run_recorded(&Scenario::generate(workload, Seed(seed)), &capture).expect("it does not panic");
        (run.hash, capture.take())
    }

    #[test]
    fn recording_does_not_change_a_run() {
        for (workload, seed) in [(Workload::Consistency, 1), (Workload::Fallback, 2), (Workload::Isolation, 3)] {
            let unrecorded = runner::run(&Scenario::generate(workload, Seed(seed))).expect("it does not panic");
            let (hash, packets) = recorded(workload, seed);
            assert_eq!(hash, unrecorded.hash);
            assert!(packets.len() > 500, "{}", packets.len());
        }
    }

    /// Position `a` of a sequence is not behind `b`; they wrap.
    fn reaches(a: u32, b: u32) -> bool {
        a.wrapping_sub(b) < 1 << 31
    }

    #[test]
    fn a_file_holds_whole_packets_whose_numbers_have_no_gaps() {
        for seed in 0..20 {
            let (_, packets) = recorded(Workload::Consistency, seed);
            let mut file = Vec::new();
            write(&packets, &mut file).expect("memory takes it");
            let read = parse(&file);
            assert_eq!(read.len(), packets.len());
            assert!(read.is_sorted_by_key(|(at_us, _)| *at_us));
            let mut next = BTreeMap::new();
            for (number, (_, bytes)) in read.iter().enumerate() {
                let sliced = SlicedPacket::from_ip(bytes).expect("an IP packet");
                let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (sliced.net, sliced.transport) else {
                    panic!("packet {number} of seed {seed} is no TCP over IPv4");
                };
                assert_eq!(ip.header().to_header().calc_header_checksum(), ip.header().header_checksum());
                let sum = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination());
                assert_eq!(sum.expect("it is short"), tcp.checksum());
                let from = (ip.header().source(), tcp.source_port());
                let to = (ip.header().destination(), tcp.destination_port());
                let len = u32::try_from(tcp.payload().len()).expect("short") + u32::from(tcp.syn() || tcp.fin());
                let behind = tcp.sequence_number().wrapping_add(len);
                if tcp.syn() && !tcp.ack() {
                    next.insert((from, to), behind);
                    next.remove(&(to, from));
                    continue;
                }
                if tcp.ack() && !tcp.rst() {
                    let sent = next.get(&(to, from)).expect("it acknowledges something");
                    assert!(reaches(*sent, tcp.acknowledgment_number()), "packet {number} of seed {seed}");
                }
                let expected = *next.entry((from, to)).or_insert(tcp.sequence_number());
                assert!(reaches(expected, tcp.sequence_number()), "a gap before packet {number} of seed {seed}");
                next.insert((from, to), if reaches(behind, expected) { behind } else { expected });
            }
        }
    }

    #[test]
    fn tshark_reads_it_and_finds_commands() {
        if Command::new("tshark").arg("--version").output().is_err() {
            eprintln!("not shown: there is no tshark on the PATH");
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        for seed in 0..5 {
            let path = dir.path().join("run.pcap");
            let (_, packets) = recorded(Workload::Consistency, seed);
            write(&packets, &mut std::fs::File::create(&path).expect("a file")).expect("there is room");
            let tshark = |arguments: &[&str]| {
                let output = Command::new("tshark").arg("-r").arg(&path).args(arguments).output().expect("it runs");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                String::from_utf8(output.stdout).expect("text")
            };
            assert_eq!(tshark(&[]).lines().count(), packets.len());
            let wrong = "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || \
                         tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment";
            let check = ["-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-Y", wrong];
            assert_eq!(tshark(&check), "", "seed {seed}");
            let strings = ["-d", "tcp.port==6379,resp", "-T", "fields", "-e", "resp.bulk_string.value"];
            let commands = tshark(&strings);
            for command in ["EVALSHA", "HGETALL"] {
                let hex: Vec<_> = command.bytes().map(|byte| format!("{byte:02x}")).collect();
                assert!(commands.contains(&hex.concat()), "no {command} in seed {seed}");
            }
        }
    }
}
