//! The memory of a search: which configurations it has left without success.
//!
//! A hash table of our own: words of any number, one after the other in one allocation, so that its size is known and
//! bounded, and nothing depends on a random hash.

/// A set of sequences of words. Each begins with a word whose low 32 bits are how many follow it.
pub(crate) struct Memo {
    /// Places in `words`; 0 is none.
    table: Vec<u32>,
    words: Vec<u64>,
    count: usize,
}

impl Memo {
    pub(crate) fn new() -> Self {
        Self { table: vec![0; 1 << 10], words: vec![0], count: 0 }
    }

    /// The memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.table.len() * size_of::<u32>() + self.words.len() * size_of::<u64>()
    }

    /// Whether the sequence is new.
    pub(crate) fn insert(&mut self, key: &[u64]) -> bool {
        let mut slot = self.slot(hash(key));
        while self.table[slot] != 0 {
            let place = self.table[slot] as usize;
            if self.words.get(place..place + key.len()) == Some(key) {
                return false;
            }
            slot = (slot + 1) & (self.table.len() - 1);
        }
        self.table[slot] = u32::try_from(self.words.len()).expect("a memory limit far below 32 GiB");
        self.words.extend_from_slice(key);
        self.count += 1;
        if self.count * 2 > self.table.len() {
            self.grow();
        }
        true
    }

    fn slot(&self, hash: u64) -> usize {
        // The table is far smaller than any word.
        usize::try_from(hash & (self.table.len() as u64 - 1)).unwrap_or(0)
    }

    fn grow(&mut self) {
        self.table = vec![0; self.table.len() * 2];
        let mut place = 1;
        while place < self.words.len() {
            let len = 1 + (self.words[place] & 0xffff_ffff) as usize;
            let mut slot = self.slot(hash(&self.words[place..place + len]));
            while self.table[slot] != 0 {
                slot = (slot + 1) & (self.table.len() - 1);
            }
            self.table[slot] = u32::try_from(place).expect("it was one before");
            place += len;
        }
    }
}

fn hash(words: &[u64]) -> u64 {
    let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
    for word in words {
        hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 32;
    }
    hash
}
