//! Saves every event exactly once in a database: `consumer DATABASE ENDPOINT...`

mod store;

use std::{env, error::Error, io};

use quorumwatch::client::{Endpoints, Options, Subscription};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let mut arguments = env::args().skip(1);
    let path = arguments
        .next()
        .ok_or("usage: consumer DATABASE ENDPOINT...")?;
    let mut store = store::Store::open(path)?;
    let options = Options::after(store.kept()?);
    let mut subscription = Subscription::new(Endpoints::parse(arguments)?, options);
    while let Some(frames) = subscription.batch().await? {
        store.save(&frames)?;
    }
    Ok(())
}
