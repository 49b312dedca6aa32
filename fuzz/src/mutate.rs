//! Small changes to inputs that are right: the errors lie close to what is accepted.

/// A generator of mutants (xorshift64*, Vigna 2016): the same seed makes the same run.
#[derive(Debug, Clone)]
pub struct Mutator(u64);

/// What parsers trip over.
const TOKENS: [&[u8]; 12] = [
    b"\n",
    b"\0",
    b"\xff",
    b"-1",
    b"18446744073709551615",
    b"~",
    b"\"",
    b"{",
    b"[",
    b"\x9f",
    b"=",
    b"\xe2\x80\x94 ",
];
const BYTES_MAX: usize = 64 * 1024;

impl Mutator {
    pub const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`, or 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(self.next().checked_rem(bound).unwrap_or(0)).unwrap_or(0)
    }

    /// One of `seeds`, changed a few times.
    pub fn mutant(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes, seeds);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + 1 + self.below(32)).min(bytes.len());
        match self.below(7) {
            0 => {
                let flipped = 1 << self.below(8);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= flipped;
                }
            }
            1 => drop(bytes.drain(at.min(end)..end)),
            2 => {
                let copied = bytes.get(at.min(end)..end).unwrap_or_default().to_vec();
                drop(bytes.splice(at..at, copied));
            }
            3 => {
                let token = TOKENS.get(self.below(TOKENS.len())).copied().unwrap_or_default();
                drop(bytes.splice(at..at, token.iter().copied()));
            }
            4 => {
                let byte = u8::try_from(self.below(256)).unwrap_or_default();
                bytes.insert(at, byte);
            }
            5 => bytes.truncate(at),
            _ => {
                let other = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(other.into_iter().skip(from));
            }
        }
    }
}
