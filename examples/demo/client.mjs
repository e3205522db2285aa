// Asks the server once, by the pod's own address, shows the answer and ends.
const url = `http://${process.env.POD_IP}:8080/from-the-client`;

for (let attempt = 1; ; attempt += 1) {
  try {
    const response = await fetch(url);
    console.log((await response.text()).trim());
    break;
  } catch (error) {
    // The containers of a pod start together: the server may not listen yet.
    if (attempt === 100) throw error;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
