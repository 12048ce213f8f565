//! Saves every event once, in a database: `consumer DATABASE ENDPOINT...`

mod batch;
mod store;

use std::{env, error::Error};

use quorumwatch::client::{Begin, Cursor, Endpoint, Endpoints, Options, Subscription};

use self::{batch::batch, store::Store};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let usage = "usage: consumer DATABASE ENDPOINT...";
    let mut store = Store::open(arguments.next().ok_or(usage)?)?;
    let mut endpoints = Vec::<Endpoint>::new();
    for endpoint in arguments {
        endpoints.push(endpoint.parse()?);
    }
    let first = endpoints.pop().ok_or(usage)?;
    let begin = Begin::After(Cursor::from_parts(store.kept()?));
    let options = Options {
        begin,
        ..Options::default()
    };
    let mut subscription = Subscription::new(Endpoints::new(first, endpoints), options);
    while let Some(frames) = batch(&mut subscription).await? {
        store.save(&frames)?;
    }
    Ok(())
}
