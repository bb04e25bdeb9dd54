//! The store on a real SQLite and a real PostgreSQL, through the same bodies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bodies;
mod postgres;

use farrier_inventory_store::Store;

/// Every body once on each database.
macro_rules! on_both {
    ($($name:ident,)+) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}", dir.path().join("db").display());
                super::bodies::$name(super::Store::open(&url).await.unwrap()).await;
            })+
        }
        mod postgres_15 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let url = tokio::task::spawn_blocking(super::postgres::new_database).await.unwrap();
                super::bodies::$name(super::Store::open(&url).await.unwrap()).await;
            })+
        }
    };
}

on_both! {
    what_is_created_is_read_back,
    names_are_taken_once,
    parents_must_exist_and_stay,
    a_parent_cannot_vanish_under_a_new_child,
    pages_follow_each_other,
    lists_are_searched_by_column_and_label,
    projects_see_their_own,
    one_of_many_writers_of_a_revision_wins,
    a_lost_write_says_whether_the_row_is_gone_or_newer,
    a_request_id_makes_one_resource,
    a_dry_creation_leaves_nothing,
    events_have_no_gaps_whoever_writes,
    news_is_told_once_until_something_changed,
    what_happened_is_recorded_once_since_it_began,
    secrets_are_kept_changed_and_cleared,
    a_transition_takes_new_ports_and_leaves_known_ones,
    one_bmc_has_one_node_whoever_comes_first,
    a_join_token_serves_one_key,
    what_a_rack_sees_is_kept_beside_its_nodes,
    a_rack_watches_its_own_nodes_page_by_page,
    a_rotation_is_found_whatever_its_node_is_at,
}

#[tokio::test]
async fn opening_again_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}", dir.path().join("db").display());
    let postgres = tokio::task::spawn_blocking(postgres::new_database).await.unwrap();
    for url in [sqlite, postgres] {
        let first = Store::open(&url).await.unwrap();
        let second = Store::open(&url).await.unwrap();
        bodies::two_openings_share_everything(first, second).await;
    }
}
