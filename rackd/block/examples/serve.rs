//! Serves files as iSCSI targets: `serve ADDR:PORT[,ADDR:PORT] IQN=FILE [removable]`.

use std::path::Path;

use farrier_block::{FileBacking, Limits, LunSpec, Mode, Portal, TargetSpec, Targets, serve};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().ok_or("expected ADDR:PORT")?;
    let target = arguments.next().ok_or("expected IQN=FILE")?;
    let (name, file) = target.split_once('=').ok_or("expected IQN=FILE")?;
    let removable = arguments.next().is_some_and(|word| word == "removable");
    let targets = Targets::new(Limits::default());
    let lun = LunSpec::new(0, FileBacking::open(Path::new(file), Mode::ReadWrite)?);
    targets.add(TargetSpec {
        name: name.into(),
        alias: String::new(),
        luns: vec![if removable { lun.removable() } else { lun }],
        accounts: Vec::new(),
        initiators: Vec::new(),
    })?;
    let mut portals = Vec::new();
    for address in listen.split(',') {
        let portal = Portal::bind(address.parse()?)?;
        println!("listening on {}", portal.local_addr()?);
        portals.push(portal);
    }
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    serve(portals, targets, shutdown).await?;
    Ok(())
}
