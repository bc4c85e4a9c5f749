/** What a server was told of the proxies in front of it, checked. */
import * as Result from "effect/Result"
import type * as Net from "node:net"
import type { Options } from "../../Proxy.ts"
import type { Address } from "../addresses/address.ts"
import { type Forwarding, forwardingOf } from "./forwarded.ts"
import { trustOf } from "./trust.ts"

export interface Behind {
  /** Whether an accepted connection begins with a `PROXY` header. */
  readonly sendsHeader: (conn: Net.Socket, listening: Pick<Address, "scheme">) => boolean
  /** Undefined: no proxy names clients in a request. */
  readonly forwarding: Forwarding | undefined
}

export const nothing: Behind = { sendsHeader: () => false, forwarding: undefined }

/** Reads the options; the failure is what is wrong with them. */
export const behindOf = (options: Options): Result.Result<Behind, string> => {
  const { proxyProtocol } = options
  if (proxyProtocol === undefined && options.trustForwarded === undefined) return Result.succeed(nothing)
  return Result.flatMap(forwardingOf(options), (forwarding) =>
    proxyProtocol === undefined
      ? Result.succeed({ ...nothing, forwarding })
      : Result.map(trustOf("proxyProtocol", proxyProtocol), (trust): Behind => ({
        sendsHeader: (conn, { scheme }) => {
          const address = scheme === "unix" ? "unix" : conn.remoteAddress
          // of one that was reset already: what it sent is to be believed by nothing
          return address === undefined || trust(address)
        },
        forwarding
      })))
}
