//! Machines that racks found: looked for by what they are known by, written with it, and made nodes of.

use crate::entity::{discovered, discovered_mac};
use crate::resource::{insert, replace};
use crate::{MachineKeys, NodeExtra, Store, StoreError, event};
use farrier_proto::inventory::{DiscoveredMachine, Event, Node, Port};
use prost::Message as _;
use sea_orm::sea_query::Query as Sql;
use sea_orm::{
    ColumnTrait as _, Condition, DatabaseTransaction, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Set,
};

/// A machine as it is to be written.
#[derive(Debug, Clone)]
pub struct Found {
    pub machine: DiscoveredMachine,
    pub keys: MachineKeys,
    /// Of the row that it is written over; `None`: it is new.
    pub revision: Option<i64>,
    /// Names and revisions of rows that go for it.
    pub gone: Vec<(String, i64)>,
    pub events: Vec<Event>,
}

impl Store {
    /// Machines that have the name or one of the keys, the oldest first; at most so many.
    pub async fn machines_like(
        &self,
        name: &str,
        keys: &MachineKeys,
        most: u64,
    ) -> Result<Vec<DiscoveredMachine>, StoreError> {
        let mut by_mac = Sql::select();
        by_mac
            .column(discovered_mac::Column::Machine)
            .from(discovered_mac::Entity)
            .and_where(discovered_mac::Column::Mac.is_in(keys.macs.iter().map(String::as_str)));
        let any = Condition::any()
            .add(discovered::Column::Name.eq(name))
            .add(discovered::Column::Name.in_subquery(by_mac))
            .add_option(keys.uuid.as_deref().map(|uuid| discovered::Column::Uuid.eq(uuid)))
            .add_option(keys.serial.as_deref().map(|serial| discovered::Column::Serial.eq(serial)));
        let rows: Vec<Vec<u8>> = discovered::Entity::find()
            .select_only()
            .column(discovered::Column::Body)
            .filter(any)
            .order_by_asc(discovered::Column::CreatedMs)
            .order_by_asc(discovered::Column::Name)
            .limit(most)
            .into_tuple()
            .all(self.db.conn())
            .await?;
        rows.iter().map(|body| Ok(DiscoveredMachine::decode(body.as_slice())?)).collect()
    }

    /// How many machines are kept, of a rack or of all.
    pub async fn count_machines(&self, rack: Option<&str>) -> Result<u64, StoreError> {
        Ok(discovered::Entity::find().filter(of_rack(rack)).count(self.db.conn()).await?)
    }

    /// Machines of a rack or of all, the one first that nobody has seen for longest: `most` of them, after so many.
    pub async fn longest_unseen(
        &self,
        rack: Option<&str>,
        after: u64,
        most: u64,
    ) -> Result<Vec<DiscoveredMachine>, StoreError> {
        let rows: Vec<Vec<u8>> = discovered::Entity::find()
            .select_only()
            .column(discovered::Column::Body)
            .filter(of_rack(rack))
            // The time of a row is when its machine was seen last.
            .order_by_asc(discovered::Column::UpdatedMs)
            .order_by_asc(discovered::Column::Name)
            .offset(after)
            .limit(most)
            .into_tuple()
            .all(self.db.conn())
            .await?;
        rows.iter().map(|body| Ok(DiscoveredMachine::decode(body.as_slice())?)).collect()
    }

    /// Writes a machine and its keys, and takes away what goes for it. All or nothing.
    pub async fn write_found(&self, found: Found) -> Result<(), StoreError> {
        let write = self.db.begin().await?;
        let conn = write.conn();
        for (name, revision) in &found.gone {
            take(conn, name, *revision).await?;
        }
        let name = found.machine.name.clone();
        match found.revision {
            Some(revision) => drop(replace(conn, found.machine, revision, &found.keys).await?),
            None => drop(insert(conn, found.machine, &found.keys).await?),
        }
        let old = discovered_mac::Entity::delete_many();
        old.filter(discovered_mac::Column::Machine.eq(name.as_str())).exec(conn).await?;
        let rows: Vec<_> = found
            .keys
            .macs
            .into_iter()
            .map(|mac| discovered_mac::ActiveModel { mac: Set(mac), machine: Set(name.clone()) })
            .collect();
        if !rows.is_empty() {
            discovered_mac::Entity::insert_many(rows).exec_without_returning(conn).await?;
        }
        event::record(conn, found.events).await?;
        Ok(write.commit().await?)
    }

    /// Makes the node and its ports, and takes the machine away if it still has the revision that was read. All or
    /// nothing.
    pub async fn accept(
        &self,
        (machine, revision): (&str, i64),
        node: Node,
        extra: &NodeExtra,
        ports: Vec<Port>,
        events: Vec<Event>,
    ) -> Result<Node, StoreError> {
        let write = self.db.begin().await?;
        let conn = write.conn();
        take(conn, machine, revision).await?;
        let node = insert(conn, node, extra).await?;
        for port in ports {
            insert(conn, port, &()).await?;
        }
        event::record(conn, events).await?;
        write.commit().await?;
        Ok(node)
    }
}

fn of_rack(rack: Option<&str>) -> Condition {
    Condition::all().add_option(rack.map(|rack| discovered::Column::Rack.eq(rack)))
}

/// Whoever was first has changed it, or taken it.
async fn take(conn: &DatabaseTransaction, name: &str, revision: i64) -> Result<(), StoreError> {
    let gone = discovered::Entity::delete_many()
        .filter(discovered::Column::Name.eq(name))
        .filter(discovered::Column::Revision.eq(revision));
    if gone.exec(conn).await?.rows_affected == 0 {
        return Err(StoreError::Conflict { name: name.to_owned() });
    }
    Ok(())
}
