//! What goes to the coordinators of transactions, and a transaction's part of a group.

use weir::protocol::add_offsets_to_txn::AddOffsetsToTxnRequest;
use weir::protocol::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use weir::protocol::describe_transactions::DescribeTransactionsRequest;
use weir::protocol::end_txn::EndTxnRequest;
use weir::protocol::init_producer_id::InitProducerIdRequest;
use weir::protocol::list_transactions::ListTransactionsRequest;
use weir::protocol::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};

use super::tour::{Ground, Tour};

const ID: &str = "routes-txn";
const GROUP: &str = "routes-txn-group";

/// A transaction of offsets alone, with a partition in it, which is then aborted.
pub(super) async fn ask(tour: &mut Tour<'_>) {
    let request = InitProducerIdRequest {
        transactional_id: Some(ID.into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let begun = tour.ask(request, &[]).await.unwrap();
    let (producer_id, producer_epoch) = (begun.producer_id, begun.producer_epoch);
    let topic = AddPartitionsToTxnTopic {
        name: Ground::TOPIC.into(),
        partitions: [0, 1].into(),
        ..Default::default()
    };
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: ID.into(),
        v3_and_below_producer_id: producer_id,
        v3_and_below_producer_epoch: producer_epoch,
        v3_and_below_topics: vec![topic],
        ..Default::default()
    };
    tour.ask(request, &[]).await;
    let request = AddOffsetsToTxnRequest {
        transactional_id: ID.into(),
        producer_id,
        producer_epoch,
        group_id: GROUP.into(),
        ..Default::default()
    };
    tour.ask(request, &[]).await;
    let partition =
        TxnOffsetCommitRequestPartition { partition_index: 0, committed_offset: 1, ..Default::default() };
    let topic = TxnOffsetCommitRequestTopic {
        name: Ground::TOPIC.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = TxnOffsetCommitRequest {
        transactional_id: ID.into(),
        group_id: GROUP.into(),
        producer_id,
        producer_epoch,
        topics: vec![topic],
        ..Default::default()
    };
    tour.ask(request, &[]).await;
    tour.ask(DescribeTransactionsRequest { transactional_ids: vec![ID.into()], ..Default::default() }, &[])
        .await;
    tour.ask(ListTransactionsRequest::default(), &[]).await;
    let request = EndTxnRequest {
        transactional_id: ID.into(),
        producer_id,
        producer_epoch,
        committed: false,
        ..Default::default()
    };
    tour.ask(request, &[]).await;
}
