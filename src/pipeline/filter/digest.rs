//! A digest that is the same in every build and on every machine, unlike std's hashes.

/// FNV-1a, 64 bit, over delimited strings. It detects that a subscriber asks
/// for something else; it is no protection from who wants to hide that.
pub(super) struct Digest(u64);

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Default for Digest {
    fn default() -> Self {
        Self(OFFSET)
    }
}

impl Digest {
    /// Adds a number.
    pub(super) fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// Adds numbers; the caller puts them in order.
    pub(super) fn numbers(&mut self, numbers: &[u64]) {
        self.number(numbers.len() as u64);
        for number in numbers {
            self.number(*number);
        }
    }

    /// Adds a text.
    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    /// Adds texts; the caller puts them in order.
    pub(super) fn texts(&mut self, texts: &[impl AsRef<str>]) {
        self.number(texts.len() as u64);
        for text in texts {
            self.text(text.as_ref());
        }
    }

    /// The digest of what was added.
    pub(super) fn finish(&self) -> u64 {
        self.0
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn it_is_fnv_1a() {
        let digest = |bytes: &[u8]| {
            let mut digest = Digest::default();
            digest.bytes(bytes);
            digest.finish()
        };
        // From the test vectors of its authors.
        assert_eq!(digest(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(digest(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(digest(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn texts_are_marked_off_from_each_other() {
        let digest = |lists: &[&[&str]]| {
            let mut digest = Digest::default();
            for list in lists {
                digest.texts(list);
            }
            digest.finish()
        };
        assert_ne!(digest(&[&["ab"]]), digest(&[&["a", "b"]]));
        assert_ne!(digest(&[&["a"], &[]]), digest(&[&[], &["a"]]));
    }
}
