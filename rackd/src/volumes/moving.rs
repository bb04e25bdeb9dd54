//! A volume from a machine that broke to another: first it is given, then taken over. In between nobody is offered it.
//!
//! Whose it is stands in its record, which changes whole or not at all: whatever is killed, one machine has it.

use super::disk::broken;
use super::{
    Record, VOLUME, VolumeError, Volumes, elsewhere, label, read_record, sync_dir, write_record, write_synced,
};
use std::io;

impl Volumes {
    /// Takes a volume from `from` and gives it to `onto`: sessions end, and nobody is offered it until the other's
    /// task has taken it over. Once begun it goes on when its caller is dropped, and also when the disk hangs; whoever asks for
    /// the owner meanwhile is answered after its end, or hears that the disk hangs.
    pub(crate) async fn give(&self, instance: &str, from: &str, onto: &str) -> Result<(), VolumeError> {
        let turn = self.turn(instance).await?;
        let (targets, disk) = (self.targets.clone(), self.disk.clone());
        let target = self.access(VOLUME, instance, from).target;
        let (files, dir) = (self.files(instance), self.dir.clone());
        let (instance, from, onto) = (instance.to_owned(), from.to_owned(), onto.to_owned());
        let given = tokio::spawn(async move {
            let path = files.record.clone();
            let (turn, record) = disk.with(turn, move |_| read_record(&path)).await?;
            let Some(mut record) = record else {
                return Err(VolumeError::NoVolume { instance });
            };
            if label(&record.node) == label(&onto) && record.task.is_empty() {
                return Ok(());
            }
            if label(&record.node) != label(&from) {
                return Err(elsewhere(&record, &from));
            }
            targets.remove(&target).await;
            if !record.task.is_empty() {
                record.seed_of = std::mem::take(&mut record.task);
            }
            record.node = onto;
            let write = move || write_record(&files.record, &record).and_then(|()| sync_dir(&dir));
            disk.with(turn, move |_| write()).await.map(drop)
        });
        given.await.unwrap_or_else(|error| Err(broken(io::Error::other(error))))
    }

    /// Takes a volume over that was given to `node`, with what cloud-init reads there. The same task again finds it
    /// done.
    pub(crate) async fn adopt(
        &self,
        instance: &str,
        node: &str,
        task: &str,
        seed: Vec<u8>,
    ) -> Result<(), VolumeError> {
        let (turn, mut record) = self.record(instance).await?;
        let ours = label(&record.node) == label(node) && (record.task.is_empty() || record.task == task);
        if !ours {
            return Err(elsewhere(&record, node));
        }
        if record.task == task {
            return Ok(());
        }
        // Its user data is among the new task's secrets now.
        (record.task, record.seed_of) = (task.to_owned(), String::new());
        let (files, dir) = (self.files(instance), self.dir.clone());
        let adopted = self.disk.with(turn, move |_| {
            write_synced(&files.seed, &seed)?;
            // Last: from here on the task offers it.
            write_record(&files.record, &record)?;
            sync_dir(&dir)
        });
        adopted.await.map(drop)
    }

    /// Whose an instance's volume is. Waits for a change of it that is under way, as long as the disk is waited for: behind
    /// [`VolumeError::Hangs`] that may still happen.
    pub(crate) async fn owner(&self, instance: &str) -> Result<Owner, VolumeError> {
        let (_turn, Record { node, task, seed_of, .. }) = self.record(instance).await?;
        let seed_of = if seed_of.is_empty() { task.clone() } else { seed_of };
        Ok(Owner { node, task, seed_of })
    }
}

/// Whose a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) node: String,
    /// The task that offers it; empty: it was given, and not taken over yet.
    pub(crate) task: String,
    /// The task whose secrets have the user data.
    pub(crate) seed_of: String,
}
