//! All members of a collection, over its pages (DSP0266 §7.4: `Members@odata.nextLink`), bounded.

use std::collections::HashSet;

use super::document::{Document, Path};
use super::link::Link;
use crate::BmcError;
use crate::actor::Call;

/// Pages that are read of one collection: a BMC whose pages go in a circle ends here.
const PAGES: usize = 16;
/// Members of all of them.
const MEMBERS: usize = 1024;

impl Link {
    /// Where each member is, with what the collection itself says of it, and whether those are all.
    pub(super) async fn collection(
        &mut self,
        call: &mut Call,
        path: &Path,
    ) -> Result<(Vec<(Path, Document)>, bool), BmcError> {
        let (mut members, mut seen) = (Vec::new(), HashSet::new());
        let mut next = Some(path.clone());
        for _ in 0..PAGES {
            let Some(path) = next.take() else { return Ok((members, true)) };
            let page = self.get(call, &path).await?;
            for member in page.parts("Members", MEMBERS - members.len()) {
                if let Some(path) = member.at("@odata.id").and_then(|id| Path::of(id.as_str()?))
                    && seen.insert(path.clone())
                {
                    members.push((path, member));
                }
            }
            next = page.at("Members@odata.nextLink").and_then(|next| Path::of(next.as_str()?));
            if members.len() >= MEMBERS {
                break;
            }
        }
        Ok((members, next.is_none()))
    }
}
