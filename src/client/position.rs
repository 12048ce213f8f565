//! The order of positions.

use std::cmp::Ordering;

use crate::proto::v1::Position;

/// Compares two places of one stream: by era, then by resource version as a number, then by
/// ordinal, one that is not set coming last.
pub fn compare_positions(a: &Position, b: &Position) -> Ordering {
    let eras = a.era.cmp(&b.era);
    let versions = || compare_versions(&a.resource_version, &b.resource_version);
    let ordinals = || place(a.ordinal).cmp(&place(b.ordinal));
    eras.then_with(versions).then_with(ordinals)
}

/// Decimal numbers of any length, as numbers.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn place(ordinal: Option<u32>) -> u64 {
    ordinal.map_or(u64::MAX, u64::from)
}

#[cfg(test)]
mod tests {
    use super::{Ordering, Position, compare_positions};

    #[test]
    fn positions_are_ordered_by_era_then_number_then_ordinal() {
        let position = |era, version: &str, ordinal| Position {
            era,
            resource_version: version.into(),
            ordinal,
        };
        let in_order = [
            position(1, "99999999999999999999999", None),
            position(2, "0", Some(0)),
            position(2, "9", Some(0)),
            position(2, "9", Some(u32::MAX)),
            position(2, "9", None),
            position(2, "10", Some(0)),
            position(2, "18446744073709551616", None),
        ];
        for pair in in_order.windows(2) {
            assert_eq!(compare_positions(&pair[0], &pair[1]), Ordering::Less);
            assert_eq!(compare_positions(&pair[1], &pair[0]), Ordering::Greater);
        }
        let with_zeros = position(2, "0010", Some(0));
        assert_eq!(
            compare_positions(&in_order[5], &with_zeros),
            Ordering::Equal
        );
    }
}
