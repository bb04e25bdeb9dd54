//! The schema, forward only.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, binary, binary_null, boolean, string, string_null, text,
};

/// All migrations, in order. Never change one that was released: add another.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(Init),
            Box::new(OneBmcOneNode),
            Box::new(Observations),
            Box::new(Rotations),
            Box::new(Discovered),
            Box::new(DiscoveredKeys),
            Box::new(DiscoveryPlans),
            Box::new(BmcKeys),
            Box::new(SystemKeys),
            Box::new(RotatingNodes),
            Box::new(BmcMacs),
            Box::new(DiscoveredSeen),
        ]
    }
}

/// The first schema.
struct Init;

impl MigrationName for Init {
    fn name(&self) -> &str {
        "m20261122_init"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Init {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for table in tables() {
            m.create_table(table).await?;
        }
        for (table, columns) in INDEXES {
            let mut index = Index::create();
            index.name(format!("ix_{table}_{}", columns.join("_"))).table(*table);
            for column in *columns {
                index.col(*column);
            }
            m.create_index(index).await?;
        }
        // The counter starts at 0: the first event has sequence 1.
        let mut start = Query::insert();
        start
            .into_table("counter")
            .columns(["name", "value"])
            .values(["event".into(), 0i64.into()])
            .map_err(|error| DbErr::Migration(error.to_string()))?;
        m.execute(start).await
    }
}

/// No two nodes have one BMC: each would switch the other's machine off.
struct OneBmcOneNode;

impl MigrationName for OneBmcOneNode {
    fn name(&self) -> &str {
        "m20261128_one_bmc_one_node"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for OneBmcOneNode {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let mut place = Table::alter();
        // Nodes of before get theirs when their BMC is next written.
        place.table("node").add_column(string_null("bmc_place"));
        m.alter_table(place).await?;
        let mut index = Index::create();
        index.name("ux_node_bmc_place").table("node").col("bmc_place").unique();
        m.create_index(index).await
    }
}

/// What racks see of nodes.
struct Observations;

impl MigrationName for Observations {
    fn name(&self) -> &str {
        "m20261128_observation"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Observations {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("observation")
            .col(string("node").primary_key())
            .col(binary("body"))
            .foreign_key(&mut parent("observation", "node", "node", ForeignKeyAction::Cascade))
            .take();
        m.create_table(table).await
    }
}

/// Passwords that BMCs are about to get.
struct Rotations;

impl MigrationName for Rotations {
    fn name(&self) -> &str {
        "m20261128_rotation"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Rotations {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let mut next = Table::alter();
        next.table("node").add_column(binary_null("bmc_next_secret"));
        m.alter_table(next).await
    }
}

/// Keys of BMCs themselves.
struct BmcKeys;

impl MigrationName for BmcKeys {
    fn name(&self) -> &str {
        "m20261129_bmc_key"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for BmcKeys {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let mut key = Table::alter();
        key.table("node").add_column(binary_null("bmc_kg_secret"));
        m.alter_table(key).await
    }
}

/// What a node's machine is known by beside its interfaces.
struct SystemKeys;

impl MigrationName for SystemKeys {
    fn name(&self) -> &str {
        "m20261129_system_keys"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for SystemKeys {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // Nodes of before get theirs when they are inspected again.
        for column in ["system_uuid", "system_serial"] {
            let mut key = Table::alter();
            key.table("node").add_column(string_null(column));
            m.alter_table(key).await?;
            let mut index = Index::create();
            index.name(format!("ix_node_{column}")).table("node").col(column);
            m.create_index(index).await?;
        }
        Ok(())
    }
}

/// Which nodes of a rack have a rotation under way, or one that was not settled: few, asked for with each list of BMCs.
struct RotatingNodes;

impl MigrationName for RotatingNodes {
    fn name(&self) -> &str {
        "m20261130_rotating_nodes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for RotatingNodes {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let mut index = Index::create();
        index.name("ix_node_rotating").table("node").col("rack");
        index.and_where(Expr::col("bmc_next_secret").is_not_null());
        m.create_index(index).await
    }
}

/// By what a node's BMC is known that has another address than before, or a name.
struct BmcMacs;

impl MigrationName for BmcMacs {
    fn name(&self) -> &str {
        "m20261130_bmc_macs"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for BmcMacs {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // Nodes of before get theirs when they are inspected again.
        let mut key = Table::alter();
        key.table("node").add_column(string_null("bmc_mac"));
        m.alter_table(key).await?;
        let mut index = Index::create();
        index.name("ix_node_bmc_mac").table("node").col("bmc_mac");
        m.create_index(index).await
    }
}

/// Machines that are no nodes.
struct Discovered;

impl MigrationName for Discovered {
    fn name(&self) -> &str {
        "m20261128_discovered"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Discovered {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let table = resource("discovered", [string("rack")])
            .foreign_key(&mut parent("discovered", "rack", "rack", ForeignKeyAction::Cascade))
            .take();
        m.create_table(table).await
    }
}

/// What a machine is known by, so that a report reads the rows of one machine, not all.
struct DiscoveredKeys;

impl MigrationName for DiscoveredKeys {
    fn name(&self) -> &str {
        "m20261128_discovered_keys"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for DiscoveredKeys {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // Rows of before get theirs when their machine is seen again under its name.
        for column in ["uuid", "serial"] {
            let mut key = Table::alter();
            key.table("discovered").add_column(string_null(column));
            m.alter_table(key).await?;
            let mut index = Index::create();
            index.name(format!("ix_discovered_{column}")).table("discovered").col(column);
            m.create_index(index).await?;
        }
        let table = Table::create()
            .table("discovered_mac")
            .col(string("mac"))
            .col(string("machine"))
            .primary_key(Index::create().col("mac").col("machine"))
            .foreign_key(&mut parent("discovered_mac", "machine", "discovered", ForeignKeyAction::Cascade))
            .take();
        m.create_table(table).await?;
        let mut index = Index::create();
        index.name("ix_discovered_mac_machine").table("discovered_mac").col("machine");
        m.create_index(index).await
    }
}

/// How many a rack has, and which of them was not seen for longest, without reading their bodies.
struct DiscoveredSeen;

impl MigrationName for DiscoveredSeen {
    fn name(&self) -> &str {
        "m20261130_discovered_seen"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for DiscoveredSeen {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let mut index = Index::create();
        index.name("ix_discovered_seen").table("discovered").col("rack").col("updated_ms");
        m.create_index(index).await
    }
}

/// What becomes of discovered machines: one row, sealed as a whole, since it has passwords.
struct DiscoveryPlans;

impl MigrationName for DiscoveryPlans {
    fn name(&self) -> &str {
        "m20261128_discovery_plan"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for DiscoveryPlans {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("discovery_plan")
            .col(string("name").primary_key())
            .col(big_integer("revision"))
            .col(binary("sealed"))
            .take();
        m.create_table(table).await
    }
}

/// What lists search by.
const INDEXES: &[(&str, &[&str])] = &[
    ("rack", &["site"]),
    ("node", &["rack"]),
    ("node", &["state"]),
    ("node", &["instance"]),
    ("node", &["operation"]),
    ("node", &["owner"]),
    ("port", &["node"]),
    ("label", &["key", "value"]),
    ("event", &["resource"]),
    ("event", &["operation"]),
];

fn tables() -> Vec<TableCreateStatement> {
    vec![
        resource("site", []),
        resource("rack", [string("site")])
            .foreign_key(&mut parent("rack", "site", "site", ForeignKeyAction::NoAction))
            .take(),
        resource(
            "node",
            [
                string("rack"),
                string("state"),
                string("instance"),
                string("operation"),
                string("resource_class"),
                string("owner"),
                boolean("maintenance"),
                binary_null("bmc_secret"),
                text("applied_operation").default("").take(),
                text("applied_event").default("").take(),
            ],
        )
        .foreign_key(&mut parent("node", "rack", "rack", ForeignKeyAction::NoAction))
        .take(),
        resource("port", [string("node"), string("mac_address")])
            .foreign_key(&mut parent("port", "node", "node", ForeignKeyAction::Cascade))
            .take(),
        resource("flavor", [string("architecture"), string("resource_class")]),
        Table::create()
            .table("label")
            .col(string("resource"))
            .col(string("key"))
            .col(string("value"))
            .primary_key(Index::create().col("resource").col("key"))
            .take(),
        Table::create()
            .table("event")
            .col(big_integer("sequence").primary_key())
            .col(big_integer("time_ms"))
            .col(string("actor"))
            .col(string("resource"))
            .col(string("action"))
            .col(string("before"))
            .col(string("after"))
            .col(string("operation"))
            .col(text("detail"))
            .take(),
        Table::create().table("counter").col(string("name").primary_key()).col(big_integer("value")).take(),
        Table::create()
            .table("request")
            .col(string("id").primary_key())
            .col(string("method"))
            .col(binary("digest"))
            .col(string("resource"))
            .col(big_integer("created_ms"))
            .take(),
        Table::create()
            .table("join_token")
            .col(string("digest").primary_key())
            .col(string("rack"))
            .col(big_integer("expires_ms"))
            .col(binary_null("key_digest"))
            .col(big_integer_null("used_ms"))
            .foreign_key(&mut parent("join_token", "rack", "rack", ForeignKeyAction::Cascade))
            .take(),
    ]
}

/// A table of resources: what all of them have, and `columns` of its own.
fn resource<const N: usize>(table: &'static str, columns: [ColumnDef; N]) -> TableCreateStatement {
    let mut create = Table::create();
    create
        .table(table)
        .col(string("name").primary_key())
        .col(string("uid").unique_key())
        .col(big_integer("revision"))
        .col(big_integer("created_ms"))
        .col(big_integer("updated_ms"))
        .col(binary("body"));
    for column in columns {
        create.col(column);
    }
    create
}

/// The database itself keeps children from losing their parent, whatever races. (`NO ACTION` refuses as
/// `RESTRICT` does, but SQLite reports the latter as a failed trigger, not as a foreign key.)
fn parent(
    table: &'static str,
    column: &'static str,
    parent: &'static str,
    on_delete: ForeignKeyAction,
) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(format!("fk_{table}_{column}"))
        .from(table, column)
        .to(parent, "name")
        .on_delete(on_delete)
        .to_owned()
}
