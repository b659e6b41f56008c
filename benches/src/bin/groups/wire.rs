//! One connection of a member: one request at a time.

use bytes::Bytes;
use sawlog_protocol::{Request, encode_request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Failure;

/// What the members call themselves.
const CLIENT: &str = "sawlog-groups";

pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    pub(crate) async fn connect(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// The frame that answers `request`.
    pub(crate) async fn call<'a, R: Request<'a>>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<Bytes, Failure> {
        let rope = encode_request(request, version, 1, Some(CLIENT));
        let bytes: Vec<u8> = rope.parts().concat();
        self.stream.write_all(&bytes).await?;
        let length = usize::try_from(self.stream.read_i32().await?)?;
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame).await?;
        Ok(frame.into())
    }
}
