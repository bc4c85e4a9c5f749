/** WebSockets of a network: frames on the bytes of its simulated TCP, masked from its seed. */
import type * as Socket from "effect/socket/Socket"
import type { Compression } from "../../../internal/transport/compression.ts"
import type { WebSocketLink } from "../../../internal/transport/transport.ts"
import { overStream } from "../../../internal/webSocket/socket.ts"
import type { SocketOptions } from "../../Network.ts"
import * as Settings from "../fabric/settings.ts"
import type { Topology } from "../fabric/topology.ts"

// of Holdfast's listener and dialler: in it falls the closing handshake
const linger = "1 second"

// the default of `Policy.maxFrame`
const maxFrame = 1024 * 1024

/** Makes the WebSockets of one network. */
export class WebSockets {
  // one function for all clients, which then share what encodes their frames
  private readonly maskKey: () => number

  constructor(topology: Topology) {
    const draw = topology.draw("masks")
    this.maskKey = () => Math.floor(draw() * 0x1_0000_0000) | 0
  }

  /** The settings of a socket that carries a WebSocket. */
  settings(options: SocketOptions, base: Settings.SocketSettings): Settings.SocketSettings {
    return Settings.socket({ ...options, linger: options.linger ?? (base.linger > 0 ? base.linger : linger) }, base)
  }

  /** The WebSocket over a stream. Its upgrade is done when the stream is connected. */
  over(
    stream: Socket.Socket,
    role: WebSocketLink["role"],
    settings: Settings.SocketSettings,
    compression: Compression | undefined
  ): Socket.Socket {
    const maskKey = role === "client" ? this.maskKey : undefined
    const link = { role, stream, maskKey }
    const compressed = compression === undefined ? link : { ...link, compression: () => compression }
    return overStream(compressed, { maxFrame, linger: settings.linger })
  }
}
