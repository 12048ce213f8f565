//! This machine: listeners and the data directory.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};
use tokio::net::TcpListener;

use super::{
    finding::{Finding, Verdict},
    peers::{self, Reached},
    targets::Target,
};
use crate::{config::Serve, raft};

const LISTENERS: &str = "listeners";
const DATA: &str = "data";

pub(super) fn targets(serve: &Serve) -> Vec<Target> {
    let (listen, data) = (serve.clone(), serve.clone());
    vec![
        Target::new(LISTENERS, async move { listeners(&listen).await }),
        Target::new(DATA, async move { vec![self::data(&data).await] }),
    ]
}

async fn listeners(serve: &Serve) -> Vec<Finding> {
    vec![
        listener("client_listen", serve.client_listen, &serve.name).await,
        listener("peer_listen", serve.peer_listen, &serve.name).await,
        advertised(&serve.advertise_client).await,
    ]
}

async fn listener(key: &'static str, address: SocketAddr, name: &str) -> Finding {
    let found = |verdict, detail: String| Finding::new(LISTENERS, key, verdict, detail);
    let Err(error) = TcpListener::bind(address).await else {
        return found(Verdict::Ok, format!("{address} is free"));
    };
    match error.kind() {
        ErrorKind::AddrInUse => match who(key, address, name).await {
            Some(who) if who == name => found(
                Verdict::Ok,
                format!("{address}: in use by this replica, which is running"),
            ),
            Some(who) => found(
                Verdict::Failed,
                format!("{address}: in use by replica {who:?}"),
            )
            .advise(format!("stop that one, or choose another {key}")),
            None => found(
                Verdict::Failed,
                format!("{address}: in use by another process"),
            )
            .advise(format!("choose another {key}, or stop that process")),
        },
        ErrorKind::AddrNotAvailable => found(
            Verdict::Failed,
            format!("{address}: this machine has no such address"),
        )
        .advise(format!("correct {key}")),
        _ => found(Verdict::Failed, format!("{address}: {error}"))
            .advise(format!("choose another {key}")),
    }
}

/// Clients may know names that this machine does not.
async fn advertised(address: &str) -> Finding {
    let found = |verdict, detail| Finding::new(LISTENERS, "advertise_client", verdict, detail);
    match peers::resolve(address).await {
        Ok(_) => found(Verdict::Ok, format!("{address} has an address")),
        Err((reason, _)) => found(Verdict::Warning, format!("{address}: {reason}"))
            .advise("check that clients can resolve this name, or correct advertise_client"),
    }
}

/// The name of the replica that listens there.
async fn who(key: &str, address: SocketAddr, name: &str) -> Option<String> {
    let ip = match address.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    let address = SocketAddr::new(ip, address.port()).to_string();
    match peers::ask(&address, name, name).await {
        Reached::Replica(hello) if key == "peer_listen" => Some(hello.name),
        Reached::ClientListener(name) => Some(name),
        _ => None,
    }
}

async fn data(serve: &Serve) -> Finding {
    let dir = serve.data_dir.clone();
    let looked = tokio::task::spawn_blocking(move || look(&dir)).await;
    let found = looked.unwrap_or_else(|_| Err("the check was interrupted".to_owned()));
    let shown = serve.data_dir.display();
    let finding = |verdict, detail: String| {
        Finding::new(DATA, "data_dir", verdict, format!("{shown}: {detail}"))
    };
    match found {
        Ok(Place::Usable) => finding(Verdict::Ok, "can be written".to_owned()),
        Ok(Place::Absent(above)) => {
            let above = above.display();
            finding(
                Verdict::Ok,
                format!("does not exist and can be created in {above}"),
            )
        }
        Ok(Place::InUse) => match who("peer_listen", serve.peer_listen, &serve.name).await {
            Some(name) if name == serve.name => finding(
                Verdict::Ok,
                "in use by this replica, which runs here".to_owned(),
            ),
            _ => finding(Verdict::Failed, "in use by another process".to_owned())
                .advise("stop that process, or give this replica a directory of its own"),
        },
        Err(reason) => finding(Verdict::Failed, reason)
            .advise("correct data_dir, or give this user write permission"),
    }
}

enum Place {
    Usable,
    /// It can be created in this directory.
    Absent(PathBuf),
    InUse,
}

/// Checks without creating anything.
fn look(dir: &Path) -> Result<Place, String> {
    let writable = |path: &Path| {
        access(path, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))
    };
    if dir.exists() {
        if !dir.is_dir() {
            return Err("is not a directory".to_owned());
        }
        writable(dir)?;
        let in_use = raft::is_in_use(dir).map_err(|error| format!("cannot be read: {error}"))?;
        return Ok(if in_use { Place::InUse } else { Place::Usable });
    }
    let absolute = std::path::absolute(dir).map_err(|error| error.to_string())?;
    let above = absolute.ancestors().skip(1).find(|path| path.exists());
    let above = above.ok_or("none of its parent directories exists")?;
    if !above.is_dir() {
        return Err(format!("{} is not a directory", above.display()));
    }
    writable(above)?;
    Ok(Place::Absent(above.to_owned()))
}
