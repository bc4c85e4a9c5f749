/** Numbers as a person reads them, the same on the page and in `holdfast top`. */

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]

/** `1.5 KiB`. */
export const bytes = (count: number): string => {
  let value = count
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${digits(value)} ${units[unit]}`
}

const digits = (value: number): string =>
  value === 0 || (value >= 9.95 && value < 1000)
    ? String(Math.round(value))
    : value >= 1000
    ? value.toFixed(0)
    : String(Math.round(value * 10) / 10)

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 1 })

/** `12,345`; one digit after the point where the number is small. */
export const count = (value: number): string => grouped.format(Math.abs(value) < 10 ? value : Math.round(value))

/** `12.3k`, for what has little room. */
export const short = (value: number): string => {
  const steps: ReadonlyArray<readonly [number, string]> = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]
  const step = steps.find(([size]) => Math.abs(value) >= size * 0.9995)
  return step === undefined ? digits(value) : `${digits(value / step[0])}${step[1]}`
}

const two = (value: number): string => String(value).padStart(2, "0")

/** `850 ms`, `4.2 s`, `3m 05s`, `2h 07m`, `5d 03h`. */
export const span = (millis: number): string => {
  if (millis < 0) return `-${span(-millis)}`
  if (millis < 1) return millis === 0 ? "0 s" : `${Math.round(millis * 100) / 100} ms`
  if (millis < 999.5) return `${Math.round(millis)} ms`
  if (millis < 9950) return `${Math.round(millis / 100) / 10} s`
  const seconds = Math.round(millis / 1000)
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes}m ${two(seconds % 60)}s`
  const hours = Math.floor(minutes / 60)
  if (hours < 24) return `${hours}h ${two(minutes % 60)}m`
  return `${Math.floor(hours / 24)}d ${two(hours % 24)}h`
}
