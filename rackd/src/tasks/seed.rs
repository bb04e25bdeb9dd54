//! What cloud-init finds on its NoCloud volume: host name, keys, network, user data, and where to call home.

use super::context::Context;
use super::plug::tenant;
use super::step::StepError;
use crate::config::Role;
use crate::secrets::random_token;
use farrier_proto::agent::session_response::File;
use serde_json::{Value, json};

/// The files of the volume.
pub(super) async fn files(cx: &Context<'_>) -> Result<Vec<File>, StepError> {
    let deploy = cx.deploy()?;
    // JSON is YAML: nothing a user writes can become another key.
    let meta = json!({
        "instance-id": cx.task.id,
        "local-hostname": deploy.hostname,
        "public-keys": deploy.ssh_keys,
    });
    let fixed = fixed_address(cx).await?;
    let ports = cx.machine()?.ports.iter().filter(|p| p.pxe_enabled).enumerate();
    let ethernets: serde_json::Map<_, _> = ports
        .map(|(i, port)| {
            let mut settings = json!({
                "match": { "macaddress": port.mac_address },
                "dhcp4": true,
                // The first port is how the machine is reached; it may do without the others.
                "optional": i > 0,
            });
            if let Some((first, words)) = &fixed
                && i == 0
                && let Some(settings) = settings.as_object_mut()
            {
                settings.insert("dhcp4".to_owned(), false.into());
                settings.insert("addresses".to_owned(), json!([first]));
                settings.extend(words.clone());
            }
            (format!("port{i}"), settings)
        })
        .collect();
    let network = json!({ "version": 2, "ethernets": ethernets });
    let mut user_data = cx.task.with_secrets(|s| s.user_data.clone()).await;
    if user_data.is_empty() {
        user_data = b"#cloud-config\n{}\n".to_vec();
    }
    let file = |name: &str, content: Vec<u8>| File { name: name.to_owned(), content };
    Ok(vec![
        file("meta-data", format!("{meta:#}\n").into_bytes()),
        file("network-config", format!("{network:#}\n").into_bytes()),
        file("user-data", user_data),
        file("vendor-data", vendor_data(cx).await?.into_bytes()),
    ])
}

/// The address of the first port, and how it is used, where no DHCP is counted on: the machine boots from virtual media.
async fn fixed_address(
    cx: &Context<'_>,
) -> Result<Option<(String, serde_json::Map<String, Value>)>, StepError> {
    if !cx.boots_from_media()? {
        return Ok(None);
    }
    let segment = tenant(cx)?;
    let (_, ip) = cx.rack.first_address(cx.machine()?, segment).await?;
    let mut words = serde_json::Map::new();
    if let Some(gateway) = segment.gateway {
        words.insert("gateway4".to_owned(), gateway.to_string().into());
    }
    if !segment.dns.is_empty() {
        words.insert("nameservers".to_owned(), json!({ "addresses": segment.dns }));
    }
    Ok(Some((format!("{ip}/{}", segment.prefix), words)))
}

/// A file system with them, as a logical unit of its own has it.
pub(super) async fn volume(cx: &Context<'_>) -> Result<Vec<u8>, StepError> {
    let files = files(cx).await?;
    let files: Vec<_> =
        files.iter().map(|f| farrier_nocloud::File { name: &f.name, content: &f.content }).collect();
    farrier_nocloud::volume(&files, 512, rand::random()).map_err(StepError::fatal)
}

/// Ours, below the user's: cloud-init merges user data over it.
async fn vendor_data(cx: &Context<'_>) -> Result<String, StepError> {
    let secret = cx
        .task
        .edit_secrets(|s| {
            if s.phone_secret.is_empty() {
                s.phone_secret = random_token();
            }
            s.phone_secret.clone()
        })
        .await?;
    let lives = tenant(cx)?;
    let segment = match lives.role {
        Role::Tenant | Role::Management => lives,
        // It stays where its ramdisk is.
        Role::Provisioning => cx.rack.reached_from(cx.machine()?, cx.task.agent.peer()).unwrap_or(lives),
    };
    // A recovered system is a new instance to cloud-init, so that it takes the other machine's ports and calls home;
    // to those who log in it stays the same.
    let keys = if cx.deploy()?.recovery.is_some() { "ssh_deletekeys: false\n" } else { "" };
    Ok(format!(
        "#cloud-config\n{keys}phone_home:\n  url: http://{}:{}/phone-home/{}/{secret}\n  post: [instance_id, hostname, fqdn]\n  tries: 20\n",
        segment.address, cx.rack.http_port, cx.task.id
    ))
}
