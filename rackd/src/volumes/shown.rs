//! What an operator sees of volumes, and their size.

use super::{VOLUME, Volume, VolumeError, Volumes, label, overlay_error};
use farrier_block::Backing as _;
use farrier_proto::rack::Volume as Shown;

impl Volumes {
    /// The volumes of a node, of all nodes when it is empty. What is known of their images the cache says.
    pub(crate) async fn shown(&self, node: &str) -> Result<Vec<Shown>, VolumeError> {
        let mut records = self.readable().await?;
        records.retain(|record| node.is_empty() || label(&record.node) == label(node));
        records.sort_by(|a, b| a.instance.cmp(&b.instance));
        let sessions = self.targets.sessions();
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let shown = |record: super::Record| {
            let open = self.open.peek(&record.instance);
            let target = self.access(VOLUME, &record.instance, &record.node).target;
            let logged_in = sessions.iter().filter(|session| session.target == target).count();
            let shown = Shown {
                size_bytes: open.as_ref().map_or(0, |open| number(open.overlay.size())),
                instance: record.instance,
                node: record.node,
                manifest_sha256: record.manifest_sha256,
                session_count: i32::try_from(logged_in).unwrap_or(i32::MAX),
                ..Shown::default()
            };
            (shown, open)
        };
        let shown: Vec<_> = records.into_iter().map(shown).collect();
        let measure = move || {
            let own = |open: Option<Volume>| open.and_then(|open| open.overlay.usage().ok());
            let measured = shown.into_iter().map(|(shown, open)| Shown {
                own_bytes: own(open).map_or(0, |usage| number(usage.allocated)),
                ..shown
            });
            Ok(measured.collect())
        };
        self.disk.look(measure).await
    }

    /// Makes a volume that is offered larger; the machine that has it hears of it. Returns whose it is.
    pub(crate) async fn grow(&self, instance: &str, bytes: u64) -> Result<String, VolumeError> {
        let (turn, record) = self.record(instance).await?;
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
        // Until its machine is told.
        let _turn =
            self.disk.with(turn, move |_| volume.overlay.resize(bytes).map_err(overlay_error(&path))).await?;
        self.targets.resized(&target);
        Ok(record.node)
    }
}
