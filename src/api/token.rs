//! Opaque texts that a client brings back: page tokens and resume tokens.
//!
//! A token is URL-safe base64 without padding of: version (1 byte), kind (1 byte), the digest of
//! the request that it belongs to (8 bytes), its content, and at the end CRC-32C of all that
//! (4 bytes, big-endian). The digest keeps mistakes out, not attackers: a token contains nothing
//! that its client could not ask for.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use crc32c::crc32c;
use uuid::Uuid;

/// The format that is written.
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 10;
const CHECKSUM_BYTES: usize = 4;

/// Longest token that is read: several times the longest that is written.
const TOKEN_BYTES_MAX: usize = 1024;

/// The namespace of digests; a UUID drawn once, for good.
const DIGESTS: Uuid = Uuid::from_u128(0x52c1_a2d4_0d8e_4a43_9d07_3c1b_6b8f_e1a9);

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To continue a list.
    Page,
    /// To continue a watch.
    Resume,
}

/// Of a request, without the fields in which the next one may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest([u8; 8]);

/// The content of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) digest: Digest,
    pub(super) content: Vec<u8>,
}

/// Why a text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAToken {
    /// It was never one, was cut, or is one of another kind.
    Damaged,
    /// It was written by a newer version.
    Newer,
}

impl Digest {
    /// Of the method, and whatever else must be the same.
    pub(super) fn of(method: &str, request: &[u8]) -> Self {
        let bytes = [method.as_bytes(), b"\0", request].concat();
        let [a, b, c, d, e, f, g, h, ..] = *Uuid::new_v5(&DIGESTS, &bytes).as_bytes();
        Self([a, b, c, d, e, f, g, h])
    }
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Page => b'p',
            Self::Resume => b'r',
        }
    }
}

impl Token {
    pub(super) fn write(&self, kind: Kind) -> String {
        let mut bytes = vec![VERSION, kind.byte()];
        bytes.extend(self.digest.0);
        bytes.extend(&self.content);
        bytes.extend(crc32c(&bytes).to_be_bytes());
        URL_SAFE_NO_PAD.encode(&bytes)
    }

    pub(super) fn read(kind: Kind, text: &str) -> Result<Self, NotAToken> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(NotAToken::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text);
        let bytes = bytes.map_err(|_| NotAToken::Damaged)?;
        let body = bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .filter(|(body, checksum)| crc32c(body).to_be_bytes() == **checksum);
        let (body, _) = body.ok_or(NotAToken::Damaged)?;
        let (header, content) = body
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(NotAToken::Damaged)?;
        let [version, written_kind, digest @ ..] = *header;
        if version != VERSION {
            return Err(NotAToken::Newer);
        }
        if written_kind != kind.byte() {
            return Err(NotAToken::Damaged);
        }
        Ok(Self {
            digest: Digest(digest),
            content: content.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{CHECKSUM_BYTES, Digest, Kind, NotAToken, Token, URL_SAFE_NO_PAD};
    use base64::Engine as _;

    fn token(content: &[u8]) -> Token {
        Token {
            digest: Digest::of("ListShards", b"request"),
            content: content.to_vec(),
        }
    }

    #[test]
    fn requests_that_differ_have_other_digests() {
        let digest = Digest::of("ListShards", b"request");
        assert_eq!(Digest::of("ListShards", b"request"), digest);
        assert_ne!(Digest::of("ListShards", b"requests"), digest);
        assert_ne!(Digest::of("ListClusters", b"request"), digest);
    }

    #[test]
    fn what_is_not_a_token_of_this_kind_is_refused() {
        let text = token(b"key").write(Kind::Page);
        assert_eq!(Token::read(Kind::Page, &text), Ok(token(b"key")));
        let damaged = Err(NotAToken::Damaged);
        assert_eq!(Token::read(Kind::Resume, &text), damaged);
        assert_eq!(Token::read(Kind::Page, &text[1..]), damaged);
        assert_eq!(Token::read(Kind::Page, ""), damaged);
        assert_eq!(Token::read(Kind::Page, "prod/0"), damaged);
        assert_eq!(Token::read(Kind::Page, &"A".repeat(1 << 20)), damaged);
    }

    #[test]
    fn a_token_of_a_newer_version_is_not_damaged() {
        let mut bytes = URL_SAFE_NO_PAD
            .decode(token(b"key").write(Kind::Page))
            .unwrap();
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        bytes[0] += 1;
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        let text = URL_SAFE_NO_PAD.encode(bytes);
        assert_eq!(Token::read(Kind::Page, &text), Err(NotAToken::Newer));
    }

    proptest! {
        #[test]
        fn a_token_reads_back_as_written(content in proptest::collection::vec(any::<u8>(), 0..300)) {
            let token = token(&content);
            prop_assert_eq!(Token::read(Kind::Resume, &token.write(Kind::Resume)), Ok(token));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in any::<String>()) {
            let _ = Token::read(Kind::Page, &text);
        }
    }
}
