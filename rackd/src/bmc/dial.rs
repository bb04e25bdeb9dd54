//! Connections to Redfish services: TCP, and TLS by `identity`.

use farrier_bmc::redfish::{Dial, DialError, PlainDial, RedfishAddress, Stream, Trust};
use farrier_identity::device::{DeviceError, DeviceTrust, connect};
use tokio::net::TcpStream;

/// Dials http and https.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TlsDial;

#[async_trait::async_trait]
impl Dial for TlsDial {
    async fn dial(&self, address: &RedfishAddress) -> Result<Box<dyn Stream>, DialError> {
        let trust = match &address.trust {
            Trust::Plain => return PlainDial.dial(address).await,
            Trust::Pin(pin) => DeviceTrust::Pin(*pin),
            Trust::Authorities(pem) => {
                DeviceTrust::authorities(pem).map_err(|error| DialError::Tls(error.to_string()))?
            }
            Trust::Nothing => DeviceTrust::Nothing,
        };
        let stream = TcpStream::connect(address.addr).await?;
        stream.set_nodelay(true)?;
        match connect(stream, &address.host, &trust).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(DeviceError::Certificate(seen)) => Err(DialError::Certificate(seen)),
            Err(error @ DeviceError::WeakKey(_)) => Err(DialError::WeakKey(error.to_string())),
            Err(DeviceError::Tls(seen)) => Err(DialError::Tls(seen)),
        }
    }
}
