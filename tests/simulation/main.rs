//! The whole program in simulated time.

use rand_of_libc::SeedableRng;

fn main() {
    mad_turmoil::rand::set_rng(rand_of_libc::rngs::StdRng::seed_from_u64(1));
    let _clocks = mad_turmoil::time::SimClocksGuard::init();
    let mut simulation = turmoil::Builder::new().build();
    assert!(simulation.run().is_ok());
}
