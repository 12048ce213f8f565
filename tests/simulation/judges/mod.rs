//! What must hold: of the group at every step ([`Agreement`]), of what a subscriber receives
//! ([`Record`]), and, once all faults are over, of everything ([`missing`], [`judge`]).

mod agreement;
mod delivery;
mod gaps;
mod past;
mod settled;
mod truth;

pub(crate) use agreement::Agreement;
pub(crate) use delivery::Record;
pub(crate) use settled::missing;
pub(crate) use truth::judge;
