/** Numbers that an application gives, and that are no limits of a policy. */

/** Throws, with the name, where a number is less than makes sense, or is none. */
export const atLeast = (least: number, name: string, value: number): number => {
  if (typeof value !== "number") throw new RangeError(`${name} must be a number, and not ${JSON.stringify(value)}`)
  if (!(value >= least)) throw new RangeError(`${name} must be at least ${least}, and not ${value}`)
  return value
}
