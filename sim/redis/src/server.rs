//! Commands on the server: TIME and INFO.

use std::fmt::Write as _;

use super::{
    command::{Args, Command, CommandCall, CommandWork, Flag},
    data::DATABASES,
    error_reply::Done,
    reply,
};

use crate::Refusal;

/// The version of Redis that the engine is measured by.
pub(super) const VERSION: &str = "7.0.15";

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "info", arity: -1, flags: &[Flag::Loading, Flag::Stale], run: CommandWork::Data(info) },
    Command { name: "time", arity: 1, flags: &[Flag::Loading, Flag::Stale, Flag::Fast], run: CommandWork::Data(time) },
];

fn time(call: &mut CommandCall<'_>, _: &Args<'_>) -> Done {
    reply::array(call.out, 2);
    reply::bulk(call.out, (call.now_ms / 1_000).to_string().as_bytes());
    reply::bulk(call.out, (call.now_ms % 1_000 * 1_000).to_string().as_bytes());
    Ok(())
}

fn info(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let wanted: Vec<_> = args[1..].iter().map(|section| section.to_ascii_lowercase()).collect();
    let every = wanted.is_empty() || wanted.iter().any(|name| matches!(&name[..], b"all" | b"default" | b"everything"));
    let mut text = String::new();
    for (name, write) in SECTIONS {
        if every || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name.as_bytes())) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let _ = write!(text, "# {name}\r\n");
            write(call, &mut text);
        }
    }
    reply::bulk(call.out, text.as_bytes());
    Ok(())
}

type Section = (&'static str, fn(&mut CommandCall<'_>, &mut String));

/// The sections in Redis's order, each with fields that are true of this server.
const SECTIONS: [Section; 7] = [
    ("Server", |call, text| {
        let up_seconds = (call.now_ms - call.server.started_at_ms.unwrap_or(call.now_ms)).max(0) / 1_000;
        let run_id = call.server.run_id();
        let _ = write!(
            text,
            "redis_version:{VERSION}\r\nredis_mode:standalone\r\nrun_id:{run_id}\r\nserver_time_usec:{}\r\n\
             uptime_in_seconds:{up_seconds}\r\nuptime_in_days:{}\r\n",
            call.now_ms.saturating_mul(1_000),
            up_seconds / 86_400
        );
    }),
    ("Memory", |_, text| text.push_str("maxmemory:0\r\nmaxmemory_policy:noeviction\r\n")),
    ("Persistence", |call, text| {
        let loading = i32::from(call.server.state == Some(Refusal::Loading));
        let _ = write!(text, "loading:{loading}\r\naof_enabled:1\r\n");
    }),
    ("Stats", |call, text| {
        let (connections, commands) = (call.server.connections, call.server.commands);
        let _ = write!(text, "total_connections_received:{connections}\r\ntotal_commands_processed:{commands}\r\n");
    }),
    ("Replication", |call, text| {
        let is_replica = call.server.is_replica();
        text.push_str(if is_replica { "role:slave\r\nmaster_link_status:down\r\n" } else { "role:master\r\n" });
        text.push_str("connected_slaves:0\r\n");
    }),
    ("Cluster", |_, text| text.push_str("cluster_enabled:0\r\n")),
    ("Keyspace", |call, text| {
        for number in 0..DATABASES {
            let database = call.server.database(number);
            database.remove_expired(call.now_ms);
            let (keys, expires) = database.entries().fold((0, 0), |(keys, expires), (_, entry)| {
                (keys + 1, expires + i64::from(entry.expires_at_ms.is_some()))
            });
            if keys > 0 {
                let _ = write!(text, "db{number}:keys={keys},expires={expires},avg_ttl=0\r\n");
            }
        }
    }),
];
