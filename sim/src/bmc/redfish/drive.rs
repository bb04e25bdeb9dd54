//! The virtual drive: what is in it, and what it tells of that.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::Value;

use super::changes::{Outcome, bad};
use super::config::RedfishConfig;
use super::resources::refusal;

/// It changes at once, and tells so only when that is long enough ago, as a BMC does that answers before it has the image.
#[derive(Debug, Default)]
pub(super) struct Drive {
    media: Option<String>,
    /// What it tells until then.
    before: Option<(Option<String>, Instant)>,
}

impl Drive {
    /// What is in it.
    pub(super) fn media(&self) -> Option<&str> {
        self.media.as_deref()
    }

    /// What it says is in it.
    pub(super) fn told(&self) -> Option<&str> {
        match &self.before {
            Some((before, until)) if Instant::now() < *until => before.as_deref(),
            _ => self.media(),
        }
    }

    /// POST to VirtualMedia.InsertMedia.
    pub(super) fn insert(&mut self, config: &RedfishConfig, body: &Value) -> Outcome {
        let image = body.get("Image").and_then(Value::as_str).filter(|image| image.contains("://"));
        let Some(image) = image else {
            return Err(bad("ActionParameterMissing", "Image is required"));
        };
        if config.media_needs_protocol && body.get("TransferProtocolType").is_none() {
            return Err(bad("ActionParameterMissing", "TransferProtocolType is required"));
        }
        if self.media.is_some() {
            return Err((StatusCode::CONFLICT, refusal("ResourceInUse", "something is in the drive")));
        }
        self.change(Some(image.to_owned()), config.media_takes);
        Ok(())
    }

    /// POST to VirtualMedia.EjectMedia.
    pub(super) fn eject(&mut self, config: &RedfishConfig) -> Outcome {
        if self.media.is_none() {
            return Err((StatusCode::CONFLICT, refusal("ResourceInUse", "nothing is in the drive")));
        }
        self.change(None, config.media_takes);
        Ok(())
    }

    fn change(&mut self, to: Option<String>, takes: Duration) {
        let before = std::mem::replace(&mut self.media, to);
        self.before = Some((before, Instant::now() + takes));
    }
}
