/** Flags about proxies: those in front of `serve`, and the one that `connect` and `probe` go through. */
import * as Flag from "effect/cli/Flag"
import type * as Proxy from "../node/Proxy.ts"

/** Addresses and ranges, in one list or several. */
const addresses = (name: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("ADDRESSES"),
    Flag.withDescription(description),
    Flag.atLeast(0),
    Flag.map((lists) => lists.flatMap((list) => list.split(",")).map((one) => one.trim()))
  )

export const behindFlags = {
  proxyProtocol: addresses(
    "proxy-protocol",
    "From where each connection begins with a PROXY header, version 1 or 2, that names the client: addresses and ranges such as " +
      "10.0.0.0/8,127.0.0.1, and unix for a Unix socket; others have none (default none)"
  ),
  trustForwarded: addresses(
    "trust-forwarded",
    "From where the request of a WebSocket names the client, see --forwarded-header: addresses and ranges, as above (default none)"
  ),
  forwardedHeader: Flag.Literals("forwarded-header", ["X-Forwarded-For", "Forwarded"]).pipe(
    Flag.withDescription(
      "The header that those proxies write; the other one is ignored, as what clients invented (default X-Forwarded-For)"
    ),
    Flag.withDefault("X-Forwarded-For" as const)
  )
}

export const proxyFlag = Flag.String("proxy").pipe(
  Flag.withMetavar("PROXY"),
  Flag.withDescription(
    "A proxy to go through: http://[USER:PASSWORD@]HOST:PORT, https://... or socks5://...; environment goes by HTTPS_PROXY, " +
      "HTTP_PROXY, ALL_PROXY and NO_PROXY, where others of this machine do not see the password (default none)"
  ),
  Flag.optional
)

interface Behind extends Required<Proxy.Options> {
  readonly proxyProtocol: ReadonlyArray<string>
  readonly trustForwarded: ReadonlyArray<string>
}

/** The options of a listener. */
export const behindOptions = ({ forwardedHeader, proxyProtocol, trustForwarded }: Behind): Proxy.Options => ({
  ...(proxyProtocol.length === 0 ? {} : { proxyProtocol }),
  ...(trustForwarded.length === 0 ? {} : { trustForwarded, forwardedHeader })
})

/** What is wrong with an option of a listener, as what is wrong with a flag of `serve`. */
export const asFlags = (message: string): string =>
  message
    .replace(/`(cert|key|ca)`/g, "--$1")
    .replace(/`(origin|subprotocol)s`/g, "--$1")
    .replace("`proxyProtocol`", "--proxy-protocol")
    .replace("`trustForwarded`", "--trust-forwarded")
