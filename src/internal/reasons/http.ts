/** What an answer of HTTP says about asking again. */

// 408 Request Timeout, 425 Too Early and 429 Too Many Requests: the same request may do later
const later = new Set([408, 425, 429])

/** Whether the cause of a status may pass by itself. */
export const mayPass = ({ status }: { readonly status: number }): boolean => status >= 500 || later.has(status)
