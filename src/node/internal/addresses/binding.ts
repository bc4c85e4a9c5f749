/** How a server is bound to its address, and why it cannot be. */
import type { Descriptor } from "./activation.ts"
import type * as SocketFile from "./socketFile.ts"

/** Why an address cannot be had, in the fields of a `ListenFailed`. */
export interface Refusal {
  readonly reason:
    | "BadOption"
    | "AddressInUse"
    | "SocketFileInUse"
    | "PermissionDenied"
    | "AddressNotAvailable"
    | "HostNotFound"
    | "Unknown"
  readonly detail: string
  readonly cause: Error
}

/** How to listen, apart from where. */
export interface Binding {
  readonly backlog: number
  readonly reusePort: boolean
  readonly ipv6Only: boolean
  /** A descriptor that was inherited, bound already. */
  readonly fd: Descriptor | undefined
  /** Of a socket file. */
  readonly mode: number | undefined
  readonly owner: SocketFile.Owner | undefined
}
