use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, binary, boolean, string};

pub(crate) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(First), Box::new(Homes)]
    }
}

struct First;

impl MigrationName for First {
    fn name(&self) -> &str {
        "m0001_tasks"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for First {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.create_table(
            Table::create()
                .table("tasks")
                .col(string("id").primary_key())
                .col(string("node"))
                .col(big_integer("sequence"))
                .col(boolean("unfinished"))
                .col(binary("body"))
                .col(binary("sealed"))
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create().name("tasks_sequence").table("tasks").col("sequence").unique().to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("fences")
                .col(string("node").primary_key())
                .col(big_integer("fence"))
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("addresses")
                .col(string("segment"))
                .col(big_integer("address"))
                .col(string("mac"))
                .primary_key(Index::create().col("segment").col("address"))
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("addresses_mac")
                .table("addresses")
                .col("segment")
                .col("mac")
                .unique()
                .to_owned(),
        )
        .await
    }
}

struct Homes;

impl MigrationName for Homes {
    fn name(&self) -> &str {
        "m0002_homes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Homes {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.create_table(
            Table::create().table("homes").col(string("mac").primary_key()).col(string("segment")).to_owned(),
        )
        .await
    }
}
