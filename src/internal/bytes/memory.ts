/** Memory that is used before it is cleared, and given back before it is collected. */

interface Unsafe {
  readonly allocUnsafeSlow: (size: number) => Uint8Array<ArrayBuffer>
}

// Node's, where there is one: clearing a megabyte costs as much as copying it
const { Buffer: unsafe } = globalThis as { readonly Buffer?: Unsafe | undefined }

// below this there is little to clear
const leastCleared = 4096

/** A buffer of its own that may hold old bytes: fill all of it before it is read. */
export const uncleared = (size: number): Uint8Array<ArrayBuffer> =>
  unsafe === undefined || size < leastCleared
    ? new Uint8Array(size)
    : new Uint8Array(unsafe.allocUnsafeSlow(size).buffer)

// below this, keeping books costs more than a collection
const leastReleased = 32 * 1024

const unshared = new WeakSet<ArrayBufferLike>()

/** Whether an array is so large, and all of its buffer, that its memory is worth giving back. */
export const isWhole = (bytes: Uint8Array): boolean =>
  bytes.byteLength >= leastReleased && bytes.byteLength === bytes.buffer.byteLength

/** Says that no code but the receiver of this array reads its memory; at first other code may. */
export const setUnshared = (bytes: Uint8Array): void => {
  unshared.add(bytes.buffer)
}

/**
 * Gives back the memory of an array that was copied, unless it is shared.
 *
 * V8 counts what is outside its heap, and marks all of the heap after every 64 MB of it. What a large frame was read into is
 * garbage as soon as the frame is joined: given back, it is read into again while it is in the processor's caches.
 */
export const release = (bytes: Uint8Array): void => {
  if (isWhole(bytes) && unshared.delete(bytes.buffer)) (bytes.buffer as ArrayBuffer).transfer(0)
}

// below this the objects that are made for a read weigh enough by themselves
const leastBalanced = 4096
const mostBalanced = 64 * 1024

// the young object that was made last: one that is kept nowhere might not be made at all
let ballast: ReadonlyArray<unknown> = []

/**
 * Makes an object of half so many bytes, so that V8 collects young memory before it marks its whole heap.
 *
 * A read is a few hundred bytes of objects; its bytes are outside of V8's heap. V8 collects what is young, within a millisecond,
 * after 16 to 32 MB of new objects. After 64 MB of new memory outside it marks the whole heap, in 8 ms, and 45 ms of its helper
 * threads, where a program of 25 MB is loaded. Which came first was chance: an echo of 16 KiB took 38 us of CPU or 23, one of
 * 1 MiB 2.2 ms or 1.1.
 *
 * Returns how many elements the last one has, so that it is read somewhere: bundlers take out an object that is only written.
 */
export const balance = (bytes: number): number => {
  // an element has 8 bytes; filling them would cost more than the rest
  // oxlint-disable-next-line unicorn/no-new-array
  if (bytes >= leastBalanced) ballast = new Array(Math.min(bytes, mostBalanced) >> 4)
  return ballast.length
}

const renewals: Array<() => void> = []

/** What lets go of memory that outlives its use, so that what is next begins as the first did. */
export const onRenew = (renew: () => void): void => {
  renewals.push(renew)
}

/** A simulation that is to be repeated begins with no memory of what ran before. */
export const renewAll = (): void => {
  for (const renew of renewals) renew()
}
