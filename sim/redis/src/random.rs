//! Random numbers: those of scripts, and those of commands that choose by chance.
//!
//! Of scripts: Redis puts its own `drand48` in the place of Lua's `math.random`, so that scripts see
//! the same numbers on every platform. It starts at the same point in every process and goes on from script to script. Which member SPOP
//! takes is told by no seed in Redis: here it comes from another generator of this kind, so that a run can be repeated.

/// The state of the generator: 48 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random(u64);

const BITS: u64 = (1 << 48) - 1;

impl Default for Random {
    fn default() -> Self {
        Self(0x1234_ABCD_330E)
    }
}

impl Random {
    /// What `math.randomseed` does.
    pub(super) fn seed(&mut self, seed: i64) {
        // Redis takes 32 bits of it, whatever its sign.
        self.0 = (seed.cast_unsigned() & 0xFFFF_FFFF) << 16 | 0x330E;
    }

    /// One of the numbers below `count`, which is not 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        #[expect(clippy::cast_precision_loss, reason = "no collection is that large")]
        let drawn = (self.next() * count as f64).floor();
        usize::try_from(super::number::truncate(drawn)).unwrap_or(0).min(count - 1)
    }

    /// What HRANDFIELD and its like answer for a count: positions below `length`, `count` different ones in order if it is positive, and
    /// else any, which can be the same.
    pub(super) fn positions(&mut self, count: i64, length: usize) -> Vec<usize> {
        let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        if length == 0 {
            return Vec::new();
        }
        if count < 0 {
            return (0..wanted).map(|_| self.below(length)).collect();
        }
        // Of those that are left, each is taken as often as places are left for it.
        let mut left = wanted.min(length);
        let mut taken = Vec::with_capacity(left);
        for at in 0..length {
            if left > 0 && self.below(length - at) < left {
                taken.push(at);
                left -= 1;
            }
        }
        taken
    }

    /// The next number of at least 0 and less than 1.
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & BITS;
        let top = u32::try_from(self.0 >> 17).unwrap_or(0) % i32::MAX.cast_unsigned();
        f64::from(top) / f64::from(i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_are_those_of_redis() {
        // From redis-server 7.0.15: `return math.random(1000000)`, three times after its start, and once after
        // `math.randomseed(5)`.
        let mut random = Random::default();
        let draw = |random: &mut Random| format!("{}", (random.next() * 1_000_000.0).floor() + 1.0);
        assert_eq!([draw(&mut random), draw(&mut random), draw(&mut random)], ["396465", "840486", "353337"]);
        random.seed(5);
        assert_eq!(draw(&mut random), "524840");
        random.seed(-5);
        assert_eq!(draw(&mut random), "816817");
    }
}
