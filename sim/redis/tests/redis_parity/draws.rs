//! Commands that choose by chance: two servers choose differently, so it is compared that both choose as many, of what there is.

use super::{BTreeSet, Pair, Reply, Words, words};

impl Pair<'_> {
    /// Whether two replies hold as many members of what there is. What SPOP took from the engine is put back, and what it took from the real server is taken,
    /// so that both go on with the same data.
    pub(crate) fn is_drawn_alike(&mut self, client: usize, command: &Words, real: &Reply, simulated: &Reply) -> bool {
        let [of_real, of_engine] = [real.bulks(), simulated.bulks()];
        let is_alike = |one: &Reply| (one.0[0], one.0.starts_with(b"$-1"), one.bulks().len());
        if of_real.is_empty() && of_engine.is_empty() {
            return real == simulated;
        }
        if is_alike(real) != is_alike(simulated) || real.0[0] == b'*' && head(real) != head(simulated) {
            return false;
        }
        let name = command[0].to_ascii_lowercase();
        let distinct = [&of_real, &of_engine].map(|drawn| drawn.iter().collect::<BTreeSet<_>>().len());
        let is_repeating = command.get(2).is_some_and(|count| count.starts_with(b"-"));
        let has_values = command.len() > 3;
        if !is_repeating && !has_values && distinct[0] != distinct[1] {
            return false;
        }
        if name == b"spop" {
            let key = &command[1];
            for (line, members) in [("SADD", &of_engine), ("SREM", &of_real)] {
                let change = [words(line), vec![key.clone()], members.clone()].concat();
                // Both have popped all: there is nothing to put back.
                if of_real.iter().collect::<BTreeSet<_>>() != of_engine.iter().collect() {
                    self.ask_engine(client, &change);
                }
            }
            return true;
        }
        let mut look = match name.as_slice() {
            b"srandmember" => words("SMEMBERS key"),
            b"hrandfield" => words("HGETALL key"),
            b"zrandmember" => words("ZRANGE key 0 -1 WITHSCORES"),
            _ => words("KEYS *"),
        };
        if let (Some(key), false) = (command.get(1), name == b"randomkey") {
            look[1].clone_from(key);
        }
        let there: BTreeSet<_> = self.ask_engine(client, &look).bulks().into_iter().collect();
        of_real.iter().chain(&of_engine).all(|drawn| there.contains(drawn))
    }
}

/// The first line.
fn head(reply: &Reply) -> &[u8] {
    reply.0.split(|&byte| byte == b'\n').next().unwrap_or_default()
}
