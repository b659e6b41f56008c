//! What lies on the disks of brokers.

use sawlog_protocol::ErrorCode;
use sawlog_protocol::decode_response;
use sawlog_protocol::messages::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResult};

use crate::cluster::{Channel, Client};
use crate::error::{ClientError, check};
use crate::search::is_unreached;

/// A data directory of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDir {
    /// The broker.
    pub broker: i32,
    /// Its path there.
    pub path: String,
    /// Why it cannot be used, if it cannot.
    pub failure: Option<ErrorCode>,
    /// Bytes of the file system it is in; `None` where not told.
    pub total_bytes: Option<u64>,
    /// Bytes free there; `None` where not told.
    pub usable_bytes: Option<u64>,
    /// The partitions in it.
    pub copies: Vec<PartitionCopy>,
}

/// A partition in a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionCopy {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Bytes on disk.
    pub bytes: i64,
    /// Records behind the high watermark; of a copy on its way to another directory, behind the one it
    /// replaces.
    pub lag: i64,
    /// Whether it is on its way from another directory of the broker.
    pub is_future: bool,
    /// Records that are damaged and not served; 0 also where the broker does not tell.
    pub quarantined: i64,
}

/// Bytes of a partition on one broker's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSize {
    /// The broker.
    pub broker: i32,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Bytes on disk.
    pub bytes: i64,
    /// Records that are damaged and not served; 0 also where the broker does not tell.
    pub quarantined: i64,
}

impl Client {
    /// The data directories of all brokers, with every partition in them.
    ///
    /// # Errors
    /// A broker does not answer or refuses. That a directory cannot be used is told with it.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// for directory in client.log_dirs().await? {
    ///     println!("{}: {:?} bytes free", directory.path, directory.usable_bytes);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn log_dirs(&self) -> Result<Vec<LogDir>, ClientError> {
        let (directories, silent) = self.reachable_log_dirs().await?;
        silent.into_iter().next().map_or(Ok(directories), |(_, error)| Err(error))
    }

    /// As [`Client::log_dirs`], of the brokers that can be reached; with those that cannot, and why.
    ///
    /// # Errors
    /// No broker answers, or one refuses.
    pub async fn reachable_log_dirs(
        &self,
    ) -> Result<(Vec<LogDir>, Vec<(i32, ClientError)>), ClientError> {
        let (mut directories, mut silent) = (Vec::new(), Vec::new());
        for broker in self.describe(Some(&[])).await?.brokers {
            match self.log_dirs_of(broker.id).await {
                Ok(found) => directories.extend(found),
                Err(error) if is_silence(&error) => silent.push((broker.id, error)),
                Err(error) => return Err(error),
            }
        }
        Ok((directories, silent))
    }

    async fn log_dirs_of(&self, broker: i32) -> Result<Vec<LogDir>, ClientError> {
        let request = DescribeLogDirsRequest { topics: None };
        let reply = self.broker(broker, Channel::GENERAL).await?.call(&request).await?;
        let (_, response) =
            decode_response::<DescribeLogDirsRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, None)?;
        Ok(response.results.iter().map(|one| log_dir(broker, one)).collect())
    }

    /// Bytes on disk, of every replica of every partition, on all brokers that run.
    ///
    /// # Errors
    /// As [`Client::log_dirs`]; and a directory cannot be used, so that its partitions are not known.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// let bytes: i64 = client.partition_sizes().await?.iter().map(|one| one.bytes).sum();
    /// println!("{bytes} bytes in all copies of everything");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn partition_sizes(&self) -> Result<Vec<PartitionSize>, ClientError> {
        let (sizes, missing) = self.reachable_partition_sizes().await?;
        missing.into_iter().next().map_or(Ok(sizes), |(_, error)| Err(error))
    }

    /// As [`Client::partition_sizes`], of what can be reached; with the brokers of which that is not
    /// everything, and why: one does not answer, or has a directory that cannot be used, so that the
    /// partitions in it are not known.
    ///
    /// # Errors
    /// As [`Client::reachable_log_dirs`].
    pub async fn reachable_partition_sizes(
        &self,
    ) -> Result<(Vec<PartitionSize>, Vec<(i32, ClientError)>), ClientError> {
        let mut sizes = Vec::new();
        let (directories, mut missing) = self.reachable_log_dirs().await?;
        for directory in directories {
            if let Some(failure) = directory.failure {
                let path = format!("data directory {} is offline", directory.path);
                missing.push((directory.broker, ClientError::broker(failure, Some(&path))));
            }
            let copies = directory.copies.into_iter().filter(|copy| !copy.is_future);
            sizes.extend(copies.map(|copy| PartitionSize {
                broker: directory.broker,
                topic: copy.topic,
                partition: copy.partition,
                bytes: copy.bytes,
                quarantined: copy.quarantined,
            }));
        }
        Ok((sizes, missing))
    }
}

fn is_silence(error: &ClientError) -> bool {
    is_unreached(error) || matches!(error, ClientError::Timeout { .. })
}

fn log_dir(broker: i32, result: &DescribeLogDirsResult<'_>) -> LogDir {
    let copies = result.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| PartitionCopy {
            topic: topic.name.to_owned(),
            partition: partition.partition_index,
            bytes: partition.partition_size,
            lag: partition.offset_lag,
            is_future: partition.is_future_key,
            quarantined: partition.quarantined_records,
        })
    });
    LogDir {
        broker,
        path: result.log_dir.to_owned(),
        failure: Some(result.error_code).filter(|code| code.is_error()),
        total_bytes: u64::try_from(result.total_bytes).ok(),
        usable_bytes: u64::try_from(result.usable_bytes).ok(),
        copies: copies.collect(),
    }
}
