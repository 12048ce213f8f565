//! What is written for people, as it stands in `src/docs`: the same pages, with the code's own
//! documentation around them.

pub mod architecture {
    #![doc = include_str!("architecture.md")]
}
pub mod clients {
    #![doc = include_str!("clients.md")]
}
pub mod configuration {
    #![doc = include_str!("configuration.md")]
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
