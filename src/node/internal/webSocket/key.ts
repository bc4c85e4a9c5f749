/** How a server shows that it read the key of a request to upgrade. */
import * as Crypto from "node:crypto"

// RFC 6455, 1.3
const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

export const acceptOf = (key: string): string => Crypto.createHash("sha1").update(key + guid).digest("base64")
