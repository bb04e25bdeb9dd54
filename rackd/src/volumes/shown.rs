//! What an operator sees of volumes, and their size.

use super::{VOLUME, VolumeError, Volumes, blocking, label, overlay_error};
use farrier_block::Backing as _;
use farrier_proto::rack::Volume as Shown;

impl Volumes {
    /// The volumes of a node, of all nodes when it is empty. What is known of their images the cache says.
    pub(crate) fn shown(&self, node: &str) -> Result<Vec<Shown>, VolumeError> {
        let (mut records, unreadable) = self.read_all()?;
        for error in unreadable {
            tracing::error!(error = %farrier_runtime::telemetry::chain(&error), "a volume's record cannot be read");
        }
        records.retain(|record| node.is_empty() || label(&record.node) == label(node));
        records.sort_by(|a, b| a.instance.cmp(&b.instance));
        let sessions = self.targets.sessions();
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let shown = |record: super::Record| {
            let open = self.open.peek(&record.instance);
            let target = self.access(VOLUME, &record.instance, &record.node).target;
            let logged_in = sessions.iter().filter(|session| session.target == target).count();
            Shown {
                size_bytes: open.as_ref().map_or(0, |open| number(open.overlay.size())),
                own_bytes: open
                    .and_then(|open| open.overlay.usage().ok())
                    .map_or(0, |usage| number(usage.allocated)),
                instance: record.instance,
                node: record.node,
                manifest_sha256: record.manifest_sha256,
                session_count: i32::try_from(logged_in).unwrap_or(i32::MAX),
                ..Shown::default()
            }
        };
        Ok(records.into_iter().map(shown).collect())
    }

    /// Makes a volume that is offered larger; the machine that has it hears of it. Returns whose it is.
    pub(crate) async fn grow(&self, instance: &str, bytes: u64) -> Result<String, VolumeError> {
        let turn = self.open.turn(instance).await;
        let record = self.record(instance)?;
        let target = self.access(VOLUME, instance, &record.node).target;
        let offered = turn.as_ref().filter(|_| self.targets.names().contains(&target));
        let Some(volume) = offered.cloned() else {
            return Err(VolumeError::NotOffered { instance: instance.to_owned() });
        };
        let now = volume.overlay.size();
        if bytes < now {
            return Err(VolumeError::Shrinks { wanted: bytes, now });
        }
        let path = self.files(instance).overlay;
        blocking(move || volume.overlay.resize(bytes).map_err(overlay_error(&path))).await?;
        self.targets.resized(&target);
        Ok(record.node)
    }
}
