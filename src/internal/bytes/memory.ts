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

const renewals: Array<() => void> = []

/** What lets go of memory that outlives its use, so that what is next begins as the first did. */
export const onRenew = (renew: () => void): void => {
  renewals.push(renew)
}

/** A simulation that is to be repeated begins with no memory of what ran before. */
export const renewAll = (): void => {
  for (const renew of renewals) renew()
}
