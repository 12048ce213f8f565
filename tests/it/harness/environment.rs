//! What the environment says of how much to test, and with which seed.

/// A number that may be chosen for a run of the tests.
pub(crate) fn from_environment(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect(name))
}
