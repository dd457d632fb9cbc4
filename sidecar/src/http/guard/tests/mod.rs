mod behind;
mod generated;
mod specimens;
mod splits;
mod wrapper;
