/** Which addresses belong to proxies that are believed. */
import * as Result from "effect/Result"
import * as Net from "node:net"

/** Whether an address is one of them: an IP address as Node tells it, or `unix`. */
export type Trust = (address: string | undefined) => boolean

/** An IP address in its short form: without a zone, and IPv4 mapped into IPv6 as IPv4. */
export const plainIp = (address: string): string =>
  /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address.replace(/%.*$/, "")

const familyOf = (ip: string): "ipv4" | "ipv6" => Net.isIPv4(ip) ? "ipv4" : "ipv6"

/** Reads a list of addresses and ranges; the failure is what is wrong with it. */
export const trustOf = (option: string, list: ReadonlyArray<string>): Result.Result<Trust, string> => {
  const known = new Net.BlockList()
  let isUnixKnown = false
  for (const one of list) {
    if (one === "unix") {
      isUnixKnown = true
      continue
    }
    const [ip, prefix] = one.split("/", 2) as [string, string?]
    const bits = Net.isIPv4(ip) ? 32 : 128
    const isPrefix = prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= bits)
    if (Net.isIP(ip) === 0 || ip.includes("%") || !isPrefix || one.split("/").length > 2) {
      return Result.fail(
        `\`${option}\` has ${
          JSON.stringify(one)
        }, which is no address, as 10.0.0.7 is one, no range, as 10.0.0.0/8, and not unix`
      )
    }
    if (prefix === undefined) known.addAddress(ip, familyOf(ip))
    else known.addSubnet(ip, Number(prefix), familyOf(ip))
  }
  return Result.succeed((address) => {
    if (address === undefined) return false
    if (address === "unix") return isUnixKnown
    const ip = plainIp(address)
    return Net.isIP(ip) !== 0 && known.check(ip, familyOf(ip))
  })
}
