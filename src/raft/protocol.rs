//! What replicas must have in common to understand each other.

/// The protocol between replicas. Grows with each change that an older version would misread; a
/// version also speaks the one before its own, so that a group can be upgraded replica by replica.
/// It does not speak protocols 1, 3 and 5, which came before the first release: 2, 4 and 6 were left
/// out for that.
pub const PROTOCOL: u32 = 7;

/// The version of this software.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A peer speaks a protocol that this version does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{who} runs version {} and speaks protocol {protocol}, this replica runs version {VERSION} and \
     speaks protocol {PROTOCOL}: they do not understand each other. Run one version on every \
     replica; upgrade one protocol at a time",
    shown(version)
)]
pub struct Incompatible {
    /// The name or address of the peer.
    pub who: String,
    /// The protocol number that the peer speaks.
    pub protocol: u32,
    /// Its software version.
    pub version: String,
}

fn shown(version: &str) -> &str {
    if version.is_empty() {
        "unknown"
    } else {
        version
    }
}

/// Rejects a peer whose protocol is incompatible.
pub fn check(who: &str, protocol: u32, version: &str) -> Result<(), Incompatible> {
    if protocol != 0 && protocol.abs_diff(PROTOCOL) <= 1 {
        return Ok(());
    }
    Err(Incompatible {
        who: who.to_owned(),
        protocol,
        // A text from outside: short, and without control characters.
        version: version
            .chars()
            .filter(|c| !c.is_control())
            .take(40)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::{PROTOCOL, VERSION, check};

    #[test]
    fn neighbours_understand_each_other_and_others_get_both_versions() {
        for protocol in [PROTOCOL, PROTOCOL + 1] {
            assert_eq!(check("b", protocol, "9.9.9"), Ok(()));
        }
        for protocol in [0, PROTOCOL + 2] {
            let refused = check("b", protocol, "9.9.9").unwrap_err().to_string();
            assert!(refused.contains("b runs version 9.9.9"), "{refused}");
            assert!(refused.contains(VERSION), "{refused}");
        }
    }
}
