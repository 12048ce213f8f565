//! Positions in a stream as text.

use crate::proto::v1::Position;

/// `era/resource version/ordinal`, without the ordinal where it is after all of them.
pub(super) fn shown(position: &Position) -> String {
    let (era, version) = (position.era, &position.resource_version);
    match position.ordinal {
        Some(ordinal) => format!("{era}/{version}/{ordinal}"),
        None => format!("{era}/{version}"),
    }
}

/// The same; `-` where there is none.
pub(super) fn shown_or_dash(position: Option<&Position>) -> String {
    position.map_or_else(|| "-".into(), shown)
}

#[cfg(test)]
mod tests {
    use super::{Position, shown_or_dash};

    #[test]
    fn a_position_is_shown_with_its_ordinal_where_it_has_one() {
        let position = |ordinal| Position {
            era: 1,
            resource_version: "77".into(),
            ordinal,
        };
        assert_eq!(shown_or_dash(Some(&position(Some(0)))), "1/77/0");
        assert_eq!(shown_or_dash(Some(&position(None))), "1/77");
        assert_eq!(shown_or_dash(None), "-");
    }
}
