//! The documents of `src/docs`: the same pages, with the code's own
//! documentation around them.

pub mod architecture {
    #![doc = include_str!("architecture.md")]
}
pub mod clients {
    #![doc = include_str!("clients.md")]
}
pub mod commands {
    #![doc = include_str!("commands.md")]
}
pub mod configuration {
    #![doc = include_str!("configuration.md")]
}
pub mod decisions {
    #![doc = include_str!("decisions/README.md")]

    pub mod d0001_streams {
        #![doc = include_str!("decisions/0001-streams.md")]
    }
    pub mod d0002_cursor {
        #![doc = include_str!("decisions/0002-cursor.md")]
    }
    pub mod d0003_closing_and_errors {
        #![doc = include_str!("decisions/0003-closing-and-errors.md")]
    }
    pub mod d0004_filters_and_views {
        #![doc = include_str!("decisions/0004-filters-and-views.md")]
    }
    pub mod d0005_reads_writes_watches {
        #![doc = include_str!("decisions/0005-reads-writes-watches.md")]
    }
    pub mod d0006_reserved_and_refused {
        #![doc = include_str!("decisions/0006-reserved-and-refused.md")]
    }
    pub mod d0007_registered_twice {
        #![doc = include_str!("decisions/0007-registered-twice.md")]
    }
    pub mod d0008_json {
        #![doc = include_str!("decisions/0008-json.md")]
    }
    pub mod d0009_growth {
        #![doc = include_str!("decisions/0009-growth.md")]
    }
    pub mod d0010_moves_on_request {
        #![doc = include_str!("decisions/0010-moves-on-request.md")]
    }
}
pub mod failures {
    #![doc = include_str!("failures.md")]
}
pub mod guarantees {
    #![doc = include_str!("guarantees.md")]
}
pub mod operations {
    #![doc = include_str!("operations.md")]
}
pub mod traps {
    #![doc = include_str!("traps.md")]
}
